// The first screen: three questions, each with a sentence that answers and a picture of all models and datasets.

const caseName = ({ model, dataset }) =>
  DATA.overview.models.length === 1 ? dataset : DATA.overview.datasets.length === 1 ? model : `${model}, ${dataset}`;

/** The models of runs, each with its datasets and their n: count(run) -> n. */
const casesSaid = (runs, count) =>
  [...Map.groupBy(runs, (run) => run.model)]
    .map(([model, own]) => `${model} on ${own.map((run) => `${run.dataset} (n = ${count(run)})`).join(', ')}`)
    .join('; ');

function accuracyPicture(width) {
  const runs = gradedRuns();
  return runs.length ? settingChart(runs.map(accuracyRow), 'Right answers', width, [0, 100], (one) => `${one}%`) : null;
}

/** Every head's attention on the reasoning over its even share, with the mean over heads. */
function evenPicture(width) {
  const rows = DATA.heads;
  if (!rows.length) return null;
  const largest = Math.max(...rows.flatMap((row) => row.over_even));
  return rowChart({
    width,
    label: 'Attention of each head on the reasoning, over its even share',
    rows,
    ends: [0, Math.max(1.2, largest)],
    name: caseName,
    value: (row) => [`mean ${show(row.mean_over_even, 2)}`, 'muted'],
    guides: [1],
    above: true,
    marks: (row, x, y) => [
      row.over_even.map((value, at) => {
        const name = headName(row.scores.layer[at], row.scores.head[at]);
        const said = s('title', {}, `${name}: ${show(value, 2)} times its even share`);
        return s('circle', { cx: x(value), cy: y - 4 + (at % 3) * 4, r: 2, class: 'dot' }, said);
      }),
      s('line', { x1: x(row.mean_over_even), x2: x(row.mean_over_even), y1: y - 9, y2: y + 9, class: 'mean' }),
    ],
  });
}

/** What exchanges at the deciding word and at the last token do, by layer, for all models. */
function exchangePicture(width) {
  const lines = DATA.patching.flatMap((run) =>
    ['flip', 'final'].flatMap((name) => run.curves.filter((one) => one.curve === name && one.probe === run.probes[0])),
  );
  if (!lines.length) return null;
  const modelOf = (curve) => DATA.patching.findIndex((run) => run.curves.includes(curve));
  const dashes = [null, '6 3', '2 3', '8 3 2 3'];
  const layers = Math.max(...lines.flatMap((one) => one.layer));
  return lineChart({
    width,
    label: 'How far an exchange moves the answer, by layer',
    lines: lines.map((one) => ({
      name: one.curve,
      at: one.layer,
      mean: one.mean,
      colour: curveLook(one.curve).colour,
      dash: dashes[modelOf(one) % dashes.length],
      said: (step) => `${curveLook(one.curve).label}, layer ${one.layer[step]}: ${show(one.mean[step], 2)}`,
    })),
    ends: [Math.min(0, ...lines.flatMap((one) => one.mean)), Math.max(1, ...lines.flatMap((one) => one.mean))],
    xEnds: [0, Math.max(layers, 1)],
    xTicks: wholeTicks(0, layers),
    xTitle: DATA.exchange_axes.across,
    yTitle: DATA.exchange_axes.up,
    tall: Math.max(150, 8 + 38 * Math.max(DATA.heads.length, 4) - 18),
  });
}

const PICTURES = [
  [
    accuracyPicture,
    () => [
      swatch(SETTING_COLOURS.without_reasoning),
      'without and',
      swatch(SETTING_COLOURS.with_reasoning),
      'with reasoning: right answers, 95% intervals. Dotted: guessing.',
    ],
  ],
  [
    evenPicture,
    () => [
      'A dot is a head, one of the model\u2019s parts that look at the text: its attention on the reasoning over its even share, ' +
        'which it would get if attention were spread evenly. Bar: mean of all heads.',
    ],
  ],
  [
    exchangePicture,
    () => [
      swatch(curveLook('flip').colour),
      'at the deciding word of the reasoning,',
      swatch(curveLook('final').colour),
      'at the last token before the answer: the model\u2019s state is taken from a question with the opposite answer. 0: the ' +
        'answer stays; 1: it becomes the other.',
    ],
  ],
];

function finding(one, [draw, key]) {
  const body = h('div', { class: 'body' });
  const redrawn = async () => {
    body.replaceChildren(draw(body.clientWidth || 320) ?? h('p', { class: 'missing' }, 'Nothing to draw yet.'));
  };
  FIGURES.push({ keys: [], frame: body, redraw: redrawn });
  const parts = key().map((part) => (typeof part === 'string' ? `${part} ` : [smallKey(part), ' ']));
  return h(
    'article',
    { class: 'card finding', 'data-figure': one.figure },
    h('h2', {}, one.question),
    h('p', { class: 'says' }, visible(one.answer)),
    body,
    h('p', { class: 'note' }, parts),
    h('p', { class: 'note' }, linkTo(one.figure, 'See all of it')),
  );
}
const smallKey = (mark) => s('svg', { width: 12, height: 9, viewBox: '0 0 18 12', 'aria-hidden': 'true' }, mark);

function headlinePart() {
  return h(
    'div',
    { class: 'findings' },
    DATA.overview.questions.map((one, at) => finding(one, PICTURES[at])),
  );
}
