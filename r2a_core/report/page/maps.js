// Maps as pictures of a pixel a cell.

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
  const palette = Uint32Array.from({ length: CODES.levels + 1 }, (_, level) => {
    const [r, g, b] = mapBlue(shareOf(level));
    return level && (255 << 24) | (b << 16) | (g << 8) | r;
  });
  const pixels = new Uint32Array(image.data.buffer);
  for (let row = 0, at = 0; row < height; row++) {
    for (let column = first; column < last; column++)
      pixels[at++] = palette[levels[row * (columns.length - 1) + column]];
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
