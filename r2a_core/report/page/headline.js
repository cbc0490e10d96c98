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

/** Every head's reading of the reasoning: its odds over those of even reading, sinks left out, on a log scale. */
function evenPicture(width) {
  const rows = DATA.heads;
  const focus = rows.flatMap((row) => row.scores.focus.filter((value) => value !== null));
  if (!focus.length) return null;
  const ends = [Math.min(-1.5, ...focus), Math.max(1.5, ...focus)];
  const powers = [1 / 4096, 1 / 256, 1 / 16, 1, 16, 256].filter(
    (one) => Math.log(one) > ends[0] && Math.log(one) < ends[1],
  );
  return rowChart({
    width,
    label: 'How much more or less than even reading, sinks left out, each head reads the reasoning',
    rows,
    ends,
    at: powers.map(Math.log),
    format: (value) => (value < 0 ? `\u00f7${Math.round(Math.exp(-value))}` : `\u00d7${Math.round(Math.exp(value))}`),
    unit: 'less \u2190 even reading (\u00d71) \u2192 more',
    name: caseName,
    value: (row) => [`${row.n_above_even} of ${row.n_heads} more`, 'muted'],
    guides: [0],
    above: true,
    marks: (row, x, y) =>
      row.scores.focus.map((value, at) => {
        if (value === null) return null;
        const name = headName(row.scores.layer[at], row.scores.head[at]);
        const said = s('title', {}, `${name}: ${show(Math.exp(value), 2)} times the odds of even reading`);
        return s(
          'circle',
          { cx: x(value), cy: y - 4 + (at % 3) * 4, r: 2, class: value > 0 ? 'dot more' : 'dot' },
          said,
        );
      }),
  });
}

/** What exchanges at the named answer and at the last token do, by layer, for all models and closing sentences. */
function exchangePicture(width) {
  const lines = DATA.patching.flatMap((run) =>
    ['flip', 'final'].flatMap((name) => run.curves.filter((one) => one.curve === name)),
  );
  if (!lines.length) return null;
  const cases = DATA.patching.flatMap((run) => run.probes.map((probe) => [run, probe]));
  const caseOf = (curve) => cases.findIndex(([run, probe]) => run.curves.includes(curve) && probe === curve.probe);
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
      dash: dashes[caseOf(one) % dashes.length],
      said: (step) =>
        `${curveLook(one.curve).label}, ${one.probe}, layer ${one.layer[step]}: ${show(one.mean[step], 2)}`,
    })),
    ends: [Math.min(0, ...lines.flatMap((one) => one.mean)), Math.max(1, ...lines.flatMap((one) => one.mean))],
    xEnds: [0, Math.max(layers, 1)],
    xTicks: wholeTicks(0, layers),
    xTitle: DATA.exchange_axes.across,
    yTitle: 'moved',
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
      'A dot is a head, one of the parts of a layer that look at the text. Even reading: attention spread evenly over all text ' +
        'so far. Sinks, tokens that draw attention everywhere, are left out of both. \u00d7: odds of looking at the reasoning over those.',
    ],
  ],
  [
    exchangePicture,
    () => [
      swatch(curveLook('flip').colour),
      'at the answer that the added sentence names,',
      swatch(curveLook('final').colour),
      'at the last token before the answer: the model\u2019s state is taken from a question with the opposite answer. 0: the ' +
        'answer stays; 1: it becomes the other. Layers: the model\u2019s steps, in order. Dashed: the sentence in another form.',
    ],
  ],
];

function finding(one, [draw, key]) {
  const body = h('div', { class: 'body' });
  const redrawn = async () => {
    body.replaceChildren(draw(body.clientWidth || 320) ?? h('p', { class: 'missing' }, 'Nothing to draw yet.'));
  };
  FIGURES.push({ keys: [], frame: body, redraw: redrawn });
  const parts = (draw(320) ? key() : []).map((part) => (typeof part === 'string' ? `${part} ` : [smallKey(part), ' ']));
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
