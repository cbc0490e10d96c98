// Figure 4: the trajectory map of one head on one trace, answer rows over reasoning columns, with reflection ticks.

// A weight is a level: 0 below the floor, else 1 to the highest on a logarithmic scale up to a weight of 1.
const shareOf = (level) => (level ? (level - 1) / (CODES.levels - 1) : 0);
const weightOf = (level, floor) => (level ? floor ** (1 - shareOf(level)) : 0);
const levelError = (floor) => 100 * (floor ** (-0.5 / (CODES.levels - 1)) - 1); // %
const floorText = (floor) => String(Number(floor.toPrecision(2)));

function traceRun() {
  return findRecord('traces', { model: STATE.model, dataset: STATE.dataset });
}

function chosenTrace() {
  const run = traceRun();
  return run?.items.find((one) => one.item_id === STATE.item) ?? run?.items[0] ?? null;
}

function tracePicker() {
  const items = traceRun()?.items ?? [];
  const at = items.indexOf(chosenTrace());
  const step = (by, label, text) =>
    h(
      'button',
      {
        type: 'button',
        'aria-label': label,
        disabled: !items[at + by],
        'data-key': `trace${by}`,
        onclick: () => choose({ item: items[at + by].item_id }),
      },
      text,
    );
  return [
    picker(
      'trace',
      items.map((item) => [item.item_id, visible(item.item_id)]),
      'item',
      items[at]?.item_id ?? '',
    ),
    step(-1, 'Previous trace', '\u2039'),
    step(1, 'Next trace', '\u203a'),
  ];
}

/** Cells of a map on a canvas of one pixel a cell, stretched by the browser. */
function mapCanvas(map, levels, x, y) {
  const columns = map.columns.length - 1;
  const rows = map.rows.length - 1;
  const canvas = h('canvas', {
    class: 'map',
    role: 'img',
    'aria-label': 'Attention weights, answer rows by reasoning columns',
  });
  const [left, right] = [x(map.columns[0]), x(map.columns[columns])];
  const [top, bottom] = [y(map.rows[0]), y(map.rows[rows])];
  const scale = 2;
  canvas.width = Math.round((right - left) * scale);
  canvas.height = Math.round((bottom - top) * scale);
  const draw = canvas.getContext('2d');
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const level = levels[row * columns + column];
      if (!level) continue;
      draw.fillStyle = css(blues(0.08 + 0.92 * shareOf(level)));
      const [x0, x1] = [map.columns[column], map.columns[column + 1]].map((token) =>
        Math.round((x(token) - left) * scale),
      );
      const [y0, y1] = [map.rows[row], map.rows[row + 1]].map((token) => Math.round((y(token) - top) * scale));
      draw.fillRect(x0, y0, Math.max(x1 - x0, 1), Math.max(y1 - y0, 1));
    }
  }
  for (const [side, value] of [
    ['left', left],
    ['top', top],
    ['width', right - left],
    ['height', bottom - top],
  ]) {
    canvas.style[side] = `${value}px`;
  }
  return canvas;
}

const cross = (x, y) => `M${x - 3} ${y - 3}l6 6m0 -6l-6 6`;

/** Centroid and its band of one head, from fractions of the reasoning. */
async function walkLine(trace, layer, head, x, y) {
  const walks = trace.walks;
  const at = walks ? walks.layer.findIndex((one, index) => one === layer && walks.head[index] === head) : -1;
  if (at < 0) return null;
  const [centroid, spread, correlation] = await Promise.all(
    [walks.centroid, walks.spread, walks.correlation].map(numbers),
  );
  const groups = centroid.shape[1];
  const left = trace.think_open + 1;
  const length = trace.think_close - left;
  const points = [];
  const elsewhere = []; // heights of the groups that look elsewhere
  for (let group = 0; group < groups; group++) {
    const [middle, half] = [centroid, spread].map((one) => one.values[at * groups + group]);
    const first = walks.first_row + group * walks.width;
    const last = Math.min(first + walks.width, walks.last_row);
    if (middle === CODES.walk_unknown) {
      elsewhere.push(y((first + last) / 2));
      continue;
    }
    const token = (steps) => left + length * Math.min(Math.max(steps / CODES.walk_steps, 0), 1);
    points.push({
      group,
      y: y((first + last) / 2),
      row: first,
      centroid: middle / CODES.walk_steps,
      spread: half === CODES.walk_unknown ? null : half / CODES.walk_steps,
      x: x(token(middle)),
      low: x(token(middle - half)),
      high: x(token(middle + half)),
    });
  }
  const runs = points.reduce((found, point) => {
    if (found.at(-1)?.at(-1).group === point.group - 1) found.at(-1).push(point);
    else found.push([point]);
    return found;
  }, []);
  const line = (list, side) => list.map((point) => `${point[side].toFixed(1)} ${point.y.toFixed(1)}`).join('L');
  return {
    points,
    correlation: correlation.values[at],
    shapes: [
      ...runs.map((run) =>
        s('path', { d: `M${line(run, 'low')}L${line([...run].reverse(), 'high')}Z`, class: 'band' }),
      ),
      ...['halo', 'centroid'].flatMap((name) =>
        runs.map((run) => s('path', { d: `M${line(run, 'x')}h0`, class: name })),
      ),
      ...elsewhere.map((height) => s('path', { d: cross(x(trace.think_close), height), class: 'elsewhere' })),
    ],
  };
}

const walkFigure = () => figure({ id: 'walk', title: 'The walk of one head', keys: ['head', 'item'] }, drawWalk);

async function drawWalk(body, width) {
  const trace = chosenTrace();
  const head = chosenHead();
  if (!trace || !head)
    return { missing: `No attention maps of ${STATE.model} on ${STATE.dataset} yet: dvc repro maps.` };
  const at = trace.views.findIndex((view) => view.kind === 'head' && view.layer === head[0] && view.head === head[1]);
  const map = at < 0 ? null : trace.maps[at];
  const levels = map ? (await numbers(map.cells)).values : null;
  const left = trace.think_open + 1;
  const [top, bottom] = [trace.think_close + 1, trace.n_tokens - 1];
  const tall = Math.min(Math.max((bottom - top) * 9, 160), 360);
  const edge = 46;
  const x = linear(left, trace.think_close, edge, width - 8);
  const y = linear(top, bottom, 22, 22 + tall);
  const walk = await walkLine(trace, head[0], head[1], x, y);
  if (!map && !walk)
    return { controls: tracePicker(), missing: `Nothing is stored of ${headName(...head)} on this trace.` };
  const reflections = trace.marks.map((token) =>
    s(
      'g',
      { class: 'reflection' },
      s('line', { x1: x(token), x2: x(token), y1: 14, y2: 22 + tall }),
      s('path', { d: `M${x(token) - 4} 8h8l-4 7z` }),
      s('title', {}, `reflection phrase at token ${token}`),
    ),
  );
  const plot = picture(
    width,
    tall + 62,
    `Walk of ${headName(...head)} along the reasoning`,
    xAxis(x, wholeTicks(left, trace.think_close, width > 500 ? 10 : 5), 22, 22 + tall, String, false),
    yAxis(y, wholeTicks(top, bottom, 5), edge, edge),
    s('rect', { x: edge, y: 22, width: width - 8 - edge, height: tall, class: 'outline' }),
    reflections,
    walk?.shapes ?? [],
    axisTitle((edge + width) / 2, tall + 56, 'reasoning token'),
    axisTitle(11, 22 + tall / 2, 'answer token', false),
  );
  const readout = h('p', { class: 'readout', id: 'walk-readout' }, map ? 'Point at the map to read a weight.' : '');
  const holder = h('div', { class: 'layered' }, map ? mapCanvas(map, levels, x, y) : '', plot);
  if (map)
    holder.addEventListener('pointermove', (event) => {
      readout.textContent = readMap(event, holder, map, levels, trace.floor, x, y);
    });
  body.append(
    holder,
    readout,
    map
      ? colourBar(
          'attention weight, largest of a cell',
          trace.floor,
          1,
          (value) => blues(0.08 + 0.92 * value),
          floorText(trace.floor),
          '1',
        )
      : '',
    legend(
      [s('path', { d: 'M1 6H17', class: 'centroid' }), 'centroid of the attention, \u00b1 its spread'],
      [s('path', { d: cross(9, 6), class: 'elsewhere' }), 'looks elsewhere: less than a tenth on the reasoning'],
      trace.marks.length && [
        s('path', { d: 'M5 2h8l-4 8z', class: 'tick' }),
        'reflection phrase' +
          (trace.marks.length < trace.reflection.length
            ? ` (${trace.marks.length} of ${trace.reflection.length}; close ones have one mark)`
            : ''),
      ],
    ),
  );
  const stored = trace.views
    .filter((view) => view.kind === 'head')
    .map((view) => view.name)
    .join(', ');
  return {
    controls: tracePicker(),
    answer:
      walk &&
      `${headName(...head)} moves through this reasoning as the answer is written with r = ${show(walk.correlation, 2)} (1: in step).`,
    caption:
      `${headName(...head)} of ${STATE.model} on ${visible(trace.item_id)}: ${bottom - top} answer tokens over ` +
      `${trace.think_close - left} reasoning tokens. ` +
      (map
        ? `${pooling(map)}; weights are kept to \u00b1${levelError(trace.floor).toFixed(1)}%, below ${floorText(trace.floor)} a cell is empty.`
        : `The page carries only the centroid of this head; maps are stored of ${stored}.`),
    csv: () => [
      ['first_answer_token', 'centroid_fraction', 'spread_fraction'],
      ...(walk?.points ?? []).map((one) => [one.row, one.centroid, one.spread]),
    ],
  };
}

/** How many tokens a cell stands for. */
function pooling(map) {
  const most = (edges) => Math.max(...edges.slice(1).map((one, at) => one - edges[at]));
  const [rows, columns] = [most(map.rows), most(map.columns)];
  return rows === 1 && columns === 1
    ? 'A cell is one answer and one reasoning token'
    : `A cell shows the largest weight of up to ${rows} answer \u00d7 ${columns} reasoning tokens`;
}

function readMap(event, holder, map, levels, floor, x, y) {
  const box = holder.getBoundingClientRect();
  const columns = map.columns.length - 1;
  const find = (edges, scale, at) =>
    edges.findIndex((token, index) => index + 1 < edges.length && at >= scale(token) && at < scale(edges[index + 1]));
  const column = find(map.columns, x, event.clientX - box.left);
  const row = find(map.rows, y, event.clientY - box.top);
  if (row < 0 || column < 0) return 'Point at the map to read a weight.';
  const level = levels[row * columns + column];
  const range = (edges, at) =>
    edges[at + 1] - edges[at] > 1 ? `tokens ${edges[at]}\u2013${edges[at + 1] - 1}` : `token ${edges[at]}`;
  const weight = level ? show(weightOf(level, floor), 4) : `below ${floorText(floor)}`;
  return `Answer ${range(map.rows, row)}, reasoning ${range(map.columns, column)}: ${weight}`;
}
