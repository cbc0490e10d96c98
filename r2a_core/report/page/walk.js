// Figure 4: the trajectory map of one head on one trace, answer rows over reasoning columns, with reflection ticks.

const tracesHere = () => chosenRun('traces')?.items ?? [];
const chosenTrace = () => tracesHere().find((one) => one.item_id === STATE.item) ?? tracesHere()[0] ?? null;

function tracePicker() {
  const items = tracesHere();
  const at = items.indexOf(chosenTrace());
  const step = (by, label, text) =>
    button(text, () => choose({ item: items[at + by].item_id }), {
      ...{ 'aria-label': label, disabled: !items[at + by], 'data-key': `trace${by}` },
    });
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

const cross = (x, y) => `M${x - 3} ${y - 3}l6 6m0 -6l-6 6`;

/** Walks of all heads of a trace, unpacked: steps(at) -> {first, last, centroid, spread} by group, fractions or null. */
async function walksOf(trace) {
  if (!trace.walks) return null;
  const { layer, head, first_row, last_row, width } = trace.walks;
  const packed = picked(trace.walks, ['centroid', 'spread', 'correlation']);
  const { centroid, spread, correlation } = await allNumbers(packed);
  const groups = centroid.shape[1];
  const share = (steps) => (steps === CODES.walk_unknown ? null : steps / CODES.walk_steps);
  return {
    names: layer.map((one, at) => headName(one, head[at])),
    shape: [Math.max(...layer) + 1, Math.max(...head) + 1],
    correlation: correlation.values,
    steps: (at) =>
      Array.from({ length: groups }, (_, group) => ({
        first: first_row + group * width,
        last: Math.min(first_row + (group + 1) * width, last_row),
        centroid: share(centroid.values[at * groups + group]),
        spread: share(spread.values[at * groups + group]),
      })),
  };
}

/** Path through what there is of a list of points, broken where one is null; a point by itself is a dot. */
const brokenPath = (points) =>
  points
    .map((point, at) => {
      const [x, y] = (point ?? []).map((one) => Math.round(10 * one) / 10);
      return point && (points[at - 1] ? `L${x} ${y}` : `M${x} ${y}h0`);
    })
    .join('');

/** Centroid and spread of one head on the axes of the map. */
function walkShapes(steps, trace, x, y) {
  const left = trace.think_open + 1;
  const across = (share) => x(left + (trace.think_close - left) * Math.min(Math.max(share, 0), 1));
  const middle = ({ first, last }) => y((first + last) / 2);
  const looks = steps.map((one) => (one.centroid === null ? null : [across(one.centroid), middle(one)]));
  const bands = steps.filter((one) => one.centroid !== null && one.spread !== null);
  return [
    bands.map((one) =>
      s('rect', {
        ...{ x: across(one.centroid - one.spread), y: y(one.first), height: y(one.last) - y(one.first), class: 'band' },
        width: across(one.centroid + one.spread) - across(one.centroid - one.spread),
      }),
    ),
    ['halo', 'centroid'].map((name) => s('path', { d: brokenPath(looks), class: name })),
    steps
      .filter((one) => one.centroid === null)
      .map((one) => s('path', { d: cross(x(trace.think_close), middle(one)), class: 'elsewhere' })),
  ];
}

/** The walks of all heads of a trace, layer by head: a line each, reasoning across and answer down, coloured by r. */
function allWalks(walks, width) {
  const [layers, heads] = walks.shape;
  const at = new Map(walks.names.map((name, index) => [name, index]));
  const line = (layer, head, cell) => {
    const index = at.get(headName(layer, head));
    if (index === undefined) return null;
    const box = cell(layer, head);
    const steps = walks.steps(index);
    const points = steps.map(({ centroid }, step) =>
      centroid === null ? null : [box.x + box.width * centroid, box.y + (box.height * (step + 0.5)) / steps.length],
    );
    return s('path', { d: brokenPath(points), class: 'thumb' });
  };
  return headGrid(walks.shape, {
    id: 'walk-grid',
    width: Math.min(width, 46 + heads * 90),
    tallest: Math.min(Math.max(400 / layers, 14), 34),
    description: 'r of the walk by layer and head',
    value: (layer, head) => walks.correlation[at.get(headName(layer, head))] ?? NaN,
    colour: (value) => diverging(0.6 * value),
    chosen: chosenHead(),
    choose: (layer, head) => choose({ head: headName(layer, head), view: '' }),
    over: (cell) =>
      Array.from({ length: layers * heads }, (_, one) => line(Math.floor(one / heads), one % heads, cell)),
  });
}

/** The picture of a walk, and the scales of reasoning tokens across and answer tokens down. */
function walkPlot(width, trace, head, steps) {
  const [left, right] = [trace.think_open + 1, trace.think_close];
  const [top, bottom] = [trace.think_close + 1, trace.n_tokens - 1];
  const tall = Math.min(Math.max((bottom - top) * 9, 160), 360);
  const edge = 56;
  const x = linear(left, right, edge, width - 8);
  const y = linear(top, bottom, 22, 22 + tall);
  const reflection = (token) =>
    s(
      'g',
      { class: 'reflection' },
      s('line', { x1: x(token), x2: x(token), y1: 14, y2: 22 + tall }),
      reflectionTick(x(token), 7),
      s('title', {}, `reflection phrase at token ${token}`),
    );
  const plot = picture(
    width,
    tall + 62,
    `Walk of ${head} along the reasoning`,
    xAxis(x, wholeTicks(left, right, width > 500 ? 10 : 5), 22, 22 + tall, String, false),
    yAxis(y, wholeTicks(top, bottom, 5), edge, edge),
    s('rect', { x: edge, y: 22, width: width - 8 - edge, height: tall, class: 'outline' }),
    trace.marks.map(reflection),
    walkShapes(steps, trace, x, y),
    axisTitle((edge + width) / 2, tall + 56, 'reasoning token'),
    axisTitle(11, 22 + tall / 2, 'answer token', false),
  );
  return { plot, x, y };
}

function walkLegend({ marks, reflection }) {
  const thinned =
    marks.length < reflection.length ? ` (${marks.length} of ${reflection.length}; close ones have one mark)` : '';
  return legend(
    [s('path', { d: 'M1 6H17', class: 'centroid' }), 'centroid of the attention, \u00b1 its spread'],
    [s('path', { d: cross(9, 6), class: 'elsewhere' }), 'looks elsewhere: less than a tenth on the reasoning'],
    marks.length > 0 && [reflectionTick(9, 2), `reflection phrase${thinned}`],
  );
}

function walkCaption(trace, head, map) {
  const single = trace.views.filter((view) => view.kind === 'head').map((view) => view.name);
  const error = levelError(trace.floor).toFixed(1);
  return (
    `${head} of ${STATE.model} on ${visible(trace.item_id)} of ${STATE.dataset}: ${trace.n_tokens - 2 - trace.think_close} answer tokens over ` +
    `${trace.think_close - trace.think_open - 1} reasoning tokens. ` +
    (map
      ? `${pooling(map)}; weights are kept to \u00b1${error}%, below ${floorText(trace.floor)} a cell is empty.`
      : `The page carries only the centroid of this head; maps are stored of ${single.join(', ')}.`)
  );
}

/** Says whether a head moves through a reasoning in order; from which r on: heads.walk.correlation. */
function walkAnswer(head, r) {
  const value = `r = ${show(r, 2)}; 1: in step, walks from ${show(DATA.walk_from, 2)} on`;
  if (Number.isNaN(r) || Math.abs(r) < DATA.walk_from)
    return `${head} does not move through this reasoning in order as the answer is written (${value}).`;
  return `${head} moves ${r < 0 ? 'backwards ' : ''}through this reasoning as the answer is written (${value}).`;
}

async function drawWalk(body, width) {
  const trace = chosenTrace();
  if (!trace || !chosenHead())
    return { missing: `No attention maps of ${STATE.model} on ${STATE.dataset} yet: dvc repro maps.` };
  const head = headName(...chosenHead());
  const map = trace.maps[trace.views.findIndex((view) => view.name === head)] ?? null;
  const walks = await walksOf(trace);
  const mine = walks ? walks.names.indexOf(head) : -1;
  if (!map && mine < 0) return { controls: tracePicker(), missing: `Nothing is stored of ${head} on this trace.` };
  const steps = mine < 0 ? [] : walks.steps(mine);
  const { plot, x, y } = walkPlot(width, trace, head, steps);
  const readout = h('p', { class: 'readout', id: 'walk-readout' });
  const holder = h('div', { class: 'layered' }, plot);
  if (map) await layMap(holder, readout, trace, map, x, y);
  append(body, [
    ...[holder, readout],
    map && colourBar('attention weight, largest of a cell', trace.floor, 1, mapBlue, floorText(trace.floor), '1'),
    walkLegend(trace),
    walks && h('h4', {}, 'the walks of all heads: r by colour, reasoning across, answer down'),
    walks && allWalks(walks, width),
  ]);
  return {
    controls: tracePicker(),
    answer: mine >= 0 && walkAnswer(head, walks.correlation[mine]),
    caption: walkCaption(trace, head, map),
    csv: () =>
      steps
        .filter((one) => one.centroid !== null)
        .map(({ first, centroid, spread }) => ({
          first_answer_token: first,
          centroid_fraction: centroid,
          spread_fraction: spread,
        })),
  };
}

/** Lays a map under the picture of a walk; pointing at it reads a weight. */
async function layMap(holder, readout, trace, map, x, y) {
  const levels = (await numbers(map.cells)).values;
  const reasoning = [trace.think_open + 1, trace.think_close];
  const canvas = mapCanvas(map, levels, reasoning, 'Attention weights, answer rows by reasoning columns');
  const [left, right, top, bottom] = [...reasoning.map(x), y(map.rows[0]), y(map.rows.at(-1))];
  for (const [side, value] of Object.entries({ left, top, width: right - left, height: bottom - top })) {
    canvas.style[side] = `${value}px`;
  }
  holder.prepend(canvas);
  const range = (edges, at) =>
    edges[at + 1] - edges[at] > 1 ? `tokens ${edges[at]}\u2013${edges[at + 1] - 1}` : `token ${edges[at]}`;
  const read = (row, column) => {
    const weight = weightOf(levels[row * (map.columns.length - 1) + column], trace.floor);
    readout.textContent =
      `Answer ${range(map.rows, row)}, reasoning ${range(map.columns, column)}: ` +
      (weight ? show(weight, 4) : `below ${floorText(trace.floor)}`);
  };
  const idle = () => {
    readout.textContent = 'Point at the map, or move over it with the arrow keys, to read a weight.';
  };
  const ends = reasoning.map((token) => map.columns.indexOf(token));
  idle();
  readCells(holder, map, ends, [x, y], { read, idle, said: () => announce(readout.textContent) });
}

/** Lets one point at the cells of a map, columns first..last-1, or move over them with the keys: read(row, column). */
function readCells(holder, map, [first, last], [x, y], { read, idle, said }) {
  const find = (edges, scale, place) =>
    edges.findIndex((token, cell) => place >= scale(token) && place < scale(edges[cell + 1]));
  let at = [0, first]; // the cell that was read last
  const go = (row, column) => {
    at = [row, column];
    read(row, column);
  };
  holder.addEventListener('pointermove', (event) => {
    const box = holder.getBoundingClientRect();
    const column = find(map.columns, x, event.clientX - box.left);
    const row = find(map.rows, y, event.clientY - box.top);
    if (row >= 0 && column >= first && column < last) go(row, column);
    else idle();
  });
  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  const onkeydown = (event) => {
    if (!steps[event.key]) return;
    const [row, column] = steps[event.key].map((step, side) => at[side] + step);
    go(Math.min(Math.max(row, 0), map.rows.length - 2), Math.min(Math.max(column, first), last - 1));
    said();
    event.preventDefault();
  };
  const label = 'Map of attention weights: arrow keys move over its cells and read them';
  fill(holder, { tabindex: 0, role: 'application', 'aria-label': label, onkeydown }, []);
}
