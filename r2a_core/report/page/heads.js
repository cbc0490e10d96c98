// Figure 3: layer x head maps, with the Reasoning-Focus, induction and retrieval heads marked; a head can be chosen.

const headName = (layer, head) => `L${layer}.H${head}`;
for (const [kind, { colour }] of Object.entries(DATA.head_kinds))
  document.documentElement.style.setProperty(`--${kind}`, colour);

function headOf(text) {
  const found = /^L(\d+)\.H(\d+)$/.exec(text);
  return found ? [Number(found[1]), Number(found[2])] : null;
}

/** How many layers and heads the chosen model has. */
function headShape() {
  const { layers, heads } = DATA.overview.models.find((one) => one.name === STATE.model);
  return chosenRun('attention')?.grids.reasoning?.shape ?? [layers ?? 0, heads ?? 0];
}

const hasHead = (text) => headOf(text) !== null && within(headOf(text).join('.'), headShape());

declare(
  'setting',
  DATA.overview.settings.includes('with_reasoning') ? 'with_reasoning' : firstOf(DATA.overview.settings),
  oneOf(() => DATA.overview.settings),
);
declare(
  'target',
  'reasoning',
  oneOf(() => Object.keys(SEGMENTS)),
);
declare('head', '', hasHead);

/** The chosen head; else the one that reads the reasoning most beyond its length, or the first Reasoning-Focus Head. */
function chosenHead() {
  const heads = chosenRun('walks')?.heads;
  const most = heads ? heads.rank_by_excess.indexOf(1) : -1;
  const first = most < 0 ? chosenRun('heads')?.marks.rfh[0] : [heads.layer[most], heads.head[most]];
  return headOf(STATE.head) ?? first ?? null;
}

/** What marks a head of each kind in its cell: a frame, a triangle or a dot. */
const MARKS = {
  rfh: ({ x, y, width, height }) =>
    s('rect', { x: x + 1.5, y: y + 1.5, width: Math.max(width - 3, 3), height: height - 3, class: 'rfh' }),
  induction: ({ x, y, width, height }) =>
    s('path', { d: `M${x + width / 2 - 5} ${y + height / 2 + 4}h10l-5 -9z`, class: 'induction' }),
  retrieval: ({ x, y, width, height }) =>
    s('circle', { cx: x + width / 2, cy: y + height / 2, r: 3, class: 'retrieval' }),
};

const isRanked = () => STATE.setting === 'with_reasoning'; // heads are ranked and marked in that setting

/** What is known of a head: its shares in the chosen setting, and its scores, which are those with reasoning. */
function headFacts(ranking, layer, head, shares) {
  const scores = ranking?.scores;
  const at = scores ? scores.layer.findIndex((one, index) => one === layer && scores.head[index] === head) : -1;
  const marked = (kind) => ranking?.marks[kind].some(([l, n]) => l === layer && n === head);
  const kinds = Object.keys(DATA.head_kinds).filter(marked);
  const score = ([label, name, digits = 3]) => [label, show(scores[name][at], digits)];
  return h(
    'div',
    { class: 'side', id: 'head-facts' },
    h('h4', {}, headName(layer, head)),
    h(
      'p',
      { class: 'note' },
      kinds.map((kind) => DATA.head_kinds[kind].label).join(', ') || 'none of the marked kinds',
    ),
    facts(Object.entries(SEGMENTS).map(([name, label]) => [`share on ${label}`, show(shares[name], 4)])),
    at < 0 ? '' : [h('h4', {}, 'its scores, with reasoning'), facts(HEAD_SCORES.map(score))],
    at < 0
      ? ''
      : h('p', { class: 'note' }, `${scores.n_reworded[at]} of ${ranking.n_traces} answers are in other words.`),
  );
}

const HEAD_SCORES = [
  ['rank by share on the reasoning', 'rank'],
  ['texts in which it is in the top 10', 'top10_count'],
  ['focus: log-odds over even reading, sinks left out', 'focus'],
  ['evenness of its map (1: uniform)', 'uniformity'],
  ['walk: r, weighted by share', 'walk_correlation_weighted'],
  ['by chance at most (95%)', 'walk_null_95'],
  ['p of the walk', 'walk_p'],
  ['walk: r, unweighted (the paper)', 'walk_correlation'],
  ['answer tokens that count in it', 'effective_rows', 1],
  ['share, answers in other words', 'answer_to_reasoning_reworded'],
  ['walk: r, answers in other words', 'walk_correlation_weighted_reworded'],
  ['share on reflection phrases', 'reflection'],
  ['induction score', 'induction'],
  ['retrieval score', 'retrieval'],
];

const FOCUS_SHOWN = 3; // log-odds at which the colours end: 20 times the odds of even reading

/** How the map shows one part of the text: the reasoning by focus, where heads are ranked, else shares. */
function mapOf({ shape, values }, focus) {
  const description = focus
    ? 'log-odds of reading the reasoning over even reading, sinks left out'
    : 'mean share of attention';
  const ends = ['\u00f720', '\u00d720; \u00d71 in the middle'];
  const look = focus ? [-FOCUS_SHOWN, FOCUS_SHOWN, (value) => diverging(value / FOCUS_SHOWN), ...ends] : [0, 1, blues];
  return { shape, values: focus ?? values, colour: look[2], description, bar: colourBar(description, ...look) };
}

/** The focus of every head, in the order of the map's cells; NaN where a head has none. */
function focusOf({ scores }, heads) {
  const found = new Map(scores.focus.map((one, at) => [scores.layer[at] * heads + scores.head[at], one ?? NaN]));
  return Array.from({ length: Math.max(...found.keys()) + 1 }, (_, at) => found.get(at) ?? NaN);
}

/** The map of all heads, with marks on those of a kind. */
function headMap({ shape, values, colour, description, bar }, ranking, width) {
  const heads = shape[1];
  const marks = (isRanked() && ranking?.marks) || { rfh: [], induction: [], retrieval: [] };
  const marked = Object.entries(MARKS).map(
    ([kind, mark]) =>
      marks[kind].length && [
        mark({ x: 2, y: 0, width: 14, height: 12 }),
        `${DATA.head_kinds[kind].label}s (${marks[kind].length})`,
      ],
  );
  const grid = headGrid(shape, {
    id: 'head-grid',
    tallest: 20,
    width: Math.min(width > 760 ? width - 410 : width, 46 + heads * 60),
    description: `${description} by layer and head`,
    value: (layer, head) => values[layer * heads + head],
    colour,
    chosen: chosenHead(),
    choose: (layer, head) => {
      choose({ head: headName(layer, head), view: '' });
      announce(`${headName(layer, head)} chosen`);
    },
    over: (cell) => Object.entries(MARKS).map(([kind, mark]) => marks[kind].map((one) => mark(cell(...one)))),
  });
  return h(
    'div',
    {},
    grid,
    bar,
    ranking ? legend(...marked) : h('p', { class: 'note' }, 'The heads are not ranked yet: dvc repro heads.'),
  );
}

async function drawHeads(body, width) {
  const settings = DATA.overview.settings.map((name) => [name, words(name)]);
  const controls = [
    picker('setting', settings, 'setting'),
    picker('answer \u2192', Object.entries(SEGMENTS), 'target'),
  ];
  const run = findRecord('attention', { model: STATE.model, dataset: STATE.dataset, setting: STATE.setting });
  if (!run || !run.grids[STATE.target]) {
    return {
      controls,
      missing: `No attention of ${STATE.model} on ${STATE.dataset}, ${words(STATE.setting)}, yet: dvc repro attention.`,
    };
  }
  const ranking = chosenRun('heads');
  const here = chosenHead();
  const grids = await allNumbers(run.grids);
  const { shape, values } = grids[STATE.target];
  const focus = STATE.target === 'reasoning' && isRanked() && ranking ? focusOf(ranking, shape[1]) : null;
  const side = here && headFacts(ranking, ...here, valuesAt(grids, here[0] * shape[1] + here[1]));
  body.append(h('div', { class: 'beside' }, headMap(mapOf(grids[STATE.target], focus), ranking, width), side));
  return {
    controls,
    answer: STATE.target === 'reasoning' && isRanked() ? ranking?.answer : null,
    caption:
      `Share of attention from answer tokens to ${SEGMENTS[STATE.target]}, mean over n = ${counted(run.n_traces, 'trace')} of ` +
      `${STATE.dataset}, ${STATE.model}, ${words(STATE.setting)}${focus ? '; colours: over even reading, sinks left out' : ''}. Choose a head to see its walk below.`,
    csv: () => headRows(values.length, shape[1], (at) => valuesAt(grids, at)),
  };
}
