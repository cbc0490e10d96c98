// Maps as pictures of a pixel a cell, and what a view of a trace links.

// A weight is a level: 0 below the floor, else 1 to the highest on a logarithmic scale up to a weight of 1.
const shareOf = (level) => (level ? (level - 1) / (CODES.levels - 1) : 0);
const weightOf = (level, floor) => (level ? floor ** (1 - shareOf(level)) : 0);
const levelError = (floor) => 100 * (floor ** (-0.5 / (CODES.levels - 1)) - 1); // %
const mapBlue = (share) => blues(0.08 + 0.92 * share);
const floorText = (floor) => String(Number(floor.toPrecision(2)));

/** The part of a map over columns from..to, a pixel a cell; its box says how large it is drawn. */
function mapCanvas({ rows, columns }, levels, [from, to], label = null) {
  const [first, last] = [from, to].map((token) => columns.indexOf(token));
  const [width, height] = [last - first, rows.length - 1];
  const canvas = h('canvas', { class: 'map', width, height, role: label && 'img', 'aria-label': label });
  const draw = canvas.getContext('2d');
  const image = draw.createImageData(width, height);
  const palette = Array.from({ length: CODES.levels + 1 }, (_, level) => mapBlue(shareOf(level)));
  for (let at = 0; at < width * height; at++) {
    const level = levels[Math.floor(at / width) * (columns.length - 1) + first + (at % width)];
    if (level) image.data.set([...palette[level], 255], 4 * at);
  }
  draw.putImageData(image, 0, 0);
  return canvas;
}

/** The most answer and reasoning tokens that a cell stands for. */
const cellSize = (map) =>
  [map.rows, map.columns].map((edges) => Math.max(...edges.slice(1).map((one, at) => one - edges[at])));

function pooling(map) {
  const [rows, columns] = cellSize(map);
  return rows === 1 && columns === 1
    ? 'A cell is one answer and one reasoning token'
    : `A cell shows the largest weight of up to ${rows} answer \u00d7 ${columns} reasoning tokens`;
}

/** The maps of all views that the trace has, as buttons that choose one. */
async function mapThumbs(trace, chosen) {
  const levels = await Promise.all(trace.maps.map(({ cells }) => numbers(cells)));
  const thumb = (view, at) => {
    const map = trace.maps[at];
    const canvas = map.rows.length > 0 && mapCanvas(map, levels[at].values, [map.columns[0], map.columns.at(-1)]);
    const pressed = { 'data-key': `thumb${at}`, 'aria-pressed': String(at === chosen) };
    return button([canvas, viewLabel(view)], () => choose({ view: view.name }), pressed);
  };
  return h('div', { class: 'thumbs' }, trace.views.map(thumb));
}

/**
 * What one view of a trace links. Ends are {from, to, weight}, tokens from..to-1, the strongest first.
 * reads(token): near, in the reasoning, is exact; far, in question and answer, are cells of the map; null where the
 * token that writes it was not captured. readBy(token): answer tokens while writing which it is looked at.
 */
async function linksOf(trace, at) {
  const links = trace.links?.[at];
  if (!links) return null;
  const packed = picked(links, ['tokens', 'weights', 'reasoning', 'outside']);
  const { tokens, weights, reasoning, outside } = await allNumbers(packed);
  const [lines, width] = tokens.shape;
  const map = trace.maps[at];
  const levels = (await numbers(map.cells)).values;
  const isNear = (token) => token > trace.think_open && token < trace.think_close;
  const unseen = [0, trace.think_open, trace.think_close, trace.n_tokens - 1]; // tags; they are no part of the text
  const strongest = (found) =>
    found
      .filter((end) => end.weight && !unseen.includes(end.from))
      .sort((a, b) => b.weight - a.weight)
      .slice(0, width);
  /** Cells along one side of the map, as far as they lie in low..high-1: a token sees what is before it. */
  const cells = (edges, shift, [low, high], weight) => {
    const ends = edges
      .slice(1)
      .map((to, at) => ({
        ...{ from: Math.max(edges[at] + shift, low), to: Math.min(to + shift, high), weight: weight(at) },
      }));
    return strongest(ends.filter((end) => end.from < end.to));
  };
  const cell = (row, column) => weightOf(levels[row * (map.columns.length - 1) + column], trace.floor);
  const within = (edges, token) => edges.findIndex((from, at) => token >= from && token < edges[at + 1]);
  const near = (place, from) => ({ from, to: from + 1, weight: weights.values[place] / CODES.whole });
  const places = (line) => Array.from({ length: width }, (_, rank) => line * width + rank);
  const reads = (token) => {
    const line = token - 1 - links.first_row; // the token before writes this one
    if (line < 0 || line >= lines) return null;
    const row = within(map.rows, token - 1);
    const weight = (column) => (isNear(map.columns[column]) ? 0 : cell(row, column));
    const far = row < 0 ? [] : cells(map.columns, 0, [1, token], weight);
    const kept = places(line).filter((place) => tokens.values[place] !== CODES.no_token);
    const [inside, left] = [reasoning, outside].map((one) => one.values[line] / CODES.whole);
    const ends = kept.map((place) => near(place, tokens.values[place]));
    return { near: ends, far, reasoning: inside, outside: left };
  };
  const readBy = (token) => {
    const column = within(map.columns, token);
    const after = [token + 1, trace.n_tokens - 1];
    if (!isNear(token)) return column < 0 ? [] : cells(map.rows, 1, after, (row) => cell(row, column));
    const found = [];
    tokens.values.forEach((one, place) => {
      if (one === token) found.push(near(place, links.first_row + Math.floor(place / width) + 1));
    });
    return strongest(found);
  };
  const written = Array.from({ length: lines }, (_, line) => links.first_row + line + 1);
  return { written, width, pooled: cellSize(map), reads, readBy };
}
