// Figure 3: layer x head maps, with the Reasoning-Focus, induction and retrieval heads marked; a head can be chosen.

const headName = (layer, head) => `L${layer}.H${head}`;
for (const [kind, { colour }] of Object.entries(DATA.head_kinds))
  document.documentElement.style.setProperty(`--${kind}`, colour);

function headOf(text) {
  const found = /^L(\d+)\.H(\d+)$/.exec(text);
  return found ? [Number(found[1]), Number(found[2])] : null;
}

/** The chosen head, or the first Reasoning-Focus Head. */
function chosenHead() {
  return (
    headOf(STATE.head) ?? findRecord('heads', { model: STATE.model, dataset: STATE.dataset })?.marks.rfh[0] ?? null
  );
}

function markShapes(marks, cell) {
  const at = ([layer, head]) => {
    const box = cell(layer, head);
    return [box.x + box.width / 2, box.y + box.height / 2, box];
  };
  const around = (one) => {
    const [, , box] = at(one);
    return s('rect', {
      x: box.x + 1.5,
      y: box.y + 1.5,
      width: Math.max(box.width - 3, 3),
      height: box.height - 3,
      class: 'rfh',
    });
  };
  const triangle = (one) => {
    const [x, y] = at(one);
    return s('path', { d: `M${x - 5} ${y + 4}h10l-5 -9z`, class: 'induction' });
  };
  const circle = (one) => {
    const [x, y] = at(one);
    return s('circle', { cx: x, cy: y, r: 3, class: 'retrieval' });
  };
  return [...marks.rfh.map(around), ...marks.induction.map(triangle), ...marks.retrieval.map(circle)];
}

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
  ['more than its even share, by', 'above_uniform'],
  ['focus: over even, without sinks', 'focus'],
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

const headsFigure = () =>
  figure({ id: 'heads', title: 'Which heads look where', keys: ['setting', 'target', 'head'] }, drawHeads);

async function drawHeads(body, width) {
  const controls = [
    picker(
      'setting',
      DATA.overview.settings.map((name) => [name, words(name)]),
      'setting',
    ),
    picker('answer \u2192', Object.entries(SEGMENTS), 'target'),
  ];
  const run = findRecord('attention', { model: STATE.model, dataset: STATE.dataset, setting: STATE.setting });
  if (!run || !run.grids[STATE.target]) {
    return {
      controls,
      missing: `No attention of ${STATE.model} on ${STATE.dataset}, ${words(STATE.setting)}, yet: dvc repro attention.`,
    };
  }
  const ranking = findRecord('heads', { model: STATE.model, dataset: STATE.dataset });
  const here = chosenHead();
  const grids = await allNumbers(run.grids);
  const {
    shape: [layers, heads],
    values,
  } = grids[STATE.target];
  const wide = width > 760 ? width - 410 : width;
  const marks = (isRanked() && ranking?.marks) || { rfh: [], induction: [], retrieval: [] };
  const grid = cellGrid({
    id: 'head-grid',
    tallest: 20,
    width: Math.min(wide, 46 + heads * 60),
    rows: layers,
    columns: heads,
    rowTitle: 'layer',
    columnTitle: 'head',
    description: 'Mean share of attention by layer and head',
    value: (layer, head) => values[layer * heads + head],
    colour: blues,
    name: headName,
    chosen: here,
    choose: (layer, head) => {
      choose({ head: headName(layer, head), view: '' });
      announce(`${headName(layer, head)} chosen`);
    },
    over: (cell) => markShapes(marks, cell),
  });
  const shares = here
    ? Object.fromEntries(Object.entries(grids).map(([name, one]) => [name, one.values[here[0] * heads + here[1]]]))
    : {};
  body.append(
    h(
      'div',
      { class: 'beside' },
      h(
        'div',
        {},
        grid,
        colourBar('mean share of attention', 0, 1, blues),
        ranking
          ? legend(
              marks.rfh.length && [
                s('rect', { x: 3, y: 1, width: 11, height: 10, class: 'rfh' }),
                `Reasoning-Focus Heads (${marks.rfh.length})`,
              ],
              marks.induction.length && [
                s('path', { d: 'M4 10h10l-5 -9z', class: 'induction' }),
                `induction heads (${marks.induction.length})`,
              ],
              marks.retrieval.length && [
                s('circle', { cx: 9, cy: 6, r: 3, class: 'retrieval' }),
                `retrieval heads (${marks.retrieval.length})`,
              ],
            )
          : h('p', { class: 'note' }, 'The heads are not ranked yet: dvc repro heads.'),
      ),
      here ? headFacts(ranking, ...here, shares) : '',
    ),
  );
  return {
    controls,
    answer: STATE.target === 'reasoning' && isRanked() ? ranking?.answer : null,
    caption:
      `Share of attention from answer tokens to ${SEGMENTS[STATE.target]}, mean over n = ${counted(run.n_traces, 'trace')} of ` +
      `${STATE.dataset}, ${STATE.model}, ${words(STATE.setting)}. Choose a head to see its walk below.`,
    csv: () => [
      ['layer', 'head', ...Object.keys(SEGMENTS)],
      ...Array.from({ length: layers * heads }, (_, at) => [
        Math.floor(at / heads),
        at % heads,
        ...Object.keys(SEGMENTS).map((name) => grids[name].values[at]),
      ]),
    ],
  };
}
