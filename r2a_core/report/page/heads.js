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

function headFacts(ranking, layer, head, masses) {
  const scores = ranking?.scores;
  const at = scores ? scores.layer.findIndex((one, index) => one === layer && scores.head[index] === head) : -1;
  const score = (name, digits = 3) => [words(name), at < 0 ? '\u2013' : show(scores[name][at], digits)];
  const kinds = ranking
    ? Object.keys(DATA.head_kinds).filter((kind) => ranking.marks[kind].some(([l, n]) => l === layer && n === head))
    : [];
  return h(
    'div',
    { class: 'side', id: 'head-facts' },
    h('h4', {}, headName(layer, head)),
    h('p', { class: 'note' }, kinds.length ? kinds.map((kind) => DATA.head_kinds[kind].label).join(', ') : 'none of the marked kinds'),
    facts([
      ...Object.entries(SEGMENTS).map(([name, label]) => [`mass \u2192 ${label}`, show(masses[name], 4)]),
      ...(at < 0
        ? []
        : [
            score('rank'),
            ['traces in which it is top', show(scores.top10_count[at])],
            score('above_uniform'),
            ['focus: above even, without sinks', show(scores.focus[at], 3)],
            score('uniformity'),
            score('walk_correlation_weighted'),
            ['by chance at most (95%)', show(scores.walk_null_95[at], 3)],
            ['p of the walk', show(scores.walk_p[at], 3)],
            ['unweighted (the paper)', show(scores.walk_correlation[at], 3)],
            score('effective_rows', 1),
            ['answers in other words', `${show(scores.n_reworded[at])} of ${ranking.n_traces}`],
            ['their mass on the reasoning', show(scores.answer_to_reasoning_reworded[at], 3)],
            ['their weighted walk correlation', show(scores.walk_correlation_weighted_reworded[at], 3)],
            score('reflection'),
            score('induction'),
            score('retrieval'),
          ]),
    ]),
  );
}

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
  const wide = width > 760 ? width - 292 : width;
  const marks = ranking?.marks ?? { rfh: [], induction: [], retrieval: [] };
  const grid = cellGrid({
    id: 'head-grid',
    tallest: 20,
    width: Math.min(wide, 46 + heads * 60),
    rows: layers,
    columns: heads,
    rowLabels: String,
    columnLabels: String,
    rowTitle: 'layer',
    columnTitle: 'head',
    description: `Mean attention mass by layer and head`,
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
  const masses = here
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
        colourBar('mean attention mass', 0, 1, blues),
        ranking
          ? legend(
              [
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
      here ? headFacts(ranking, ...here, masses) : '',
    ),
  );
  return {
    controls,
    answer: STATE.target === 'reasoning' && STATE.setting === 'with_reasoning' ? ranking?.answer : null,
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
