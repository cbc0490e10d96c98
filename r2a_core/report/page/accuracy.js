// Figure 1a and Table 3: accuracy with and without reasoning, whose pairs of bars Figure 1b shares; the funnel (Table 2).

const SIDES = [
  ['with_reasoning', 'with'],
  ['without_reasoning', 'without'],
];
const STEPS = [
  ['all', 'all'],
  ['finished', 'finished'],
  ['think_format', 'think format'],
  ['answer_format', 'answer format'],
  ['common', 'common'],
];

/**
 * Two bars, with and without reasoning; a line of text for a setting that was not run.
 * tested: {n, difference, low_difference, high_difference}; bar(side) -> {mean, low, high} in the units of x, from
 * `zero` on, null where it was not run; chance in the units of x, null where there is none.
 */
function pairRow({ name, tested, stars, published, bar, zero = 0, chance = null, format, gap, data }, x, right) {
  const group = s('g', {});
  SIDES.forEach(([setting, side], line) => {
    const y = 24 + 22 * line;
    const { mean, low, high } = bar(side);
    if (mean === null) {
      group.append(textAt(x(zero), y + 13, 'start', `${side} reasoning was not run`, 'muted'));
      return;
    }
    const ends = [x(low), x(high)];
    group.append(
      s('rect', {
        x: x(zero),
        y,
        width: Math.max(x(mean) - x(zero), 0.5),
        height: 17,
        fill: SETTING_COLOURS[setting],
        'data-value': data ? data(mean) : mean,
        'data-side': side,
      }),
    );
    group.append(
      s('path', {
        d: `M${ends[0]} ${y + 8.5}H${ends[1]}M${ends[0]} ${y + 4}v9M${ends[1]} ${y + 4}v9`,
        class: 'whisker',
      }),
    );
    group.append(textAt(right, y + 13, 'end', format(mean), 'value'));
    if (published) group.append(diamond(x(published[setting]), y + 8.5));
  });
  if (chance !== null) group.append(s('path', { d: `M${x(chance)} 20V66`, class: 'chance', 'data-chance': chance }));
  group.append(
    s(
      'text',
      { x: x(zero), y: 16 },
      s('tspan', { class: 'strong' }, name),
      s('tspan', { class: 'muted', dx: 8 }, `n = ${tested.n}, ${gap(tested)} ${stars || `no test: ${tested.reason}`}`),
    ),
  );
  return group;
}

/** A difference with its interval, as in "+12.5 [8.1, 16.9]"; scale: 100 for points. */
function difference(tested, digits, scale = 1) {
  if (tested.difference === null) return '';
  const [mean, low, high] = ['', 'low_', 'high_'].map((end) => fixed(scale * tested[`${end}difference`], digits));
  return `${tested.difference < 0 ? '' : '+'}${mean} [${low}, ${high}]`;
}

function accuracyRow(run, x, right) {
  const paired = run.summary.paired;
  const percent = (name, side) => {
    const share = paired[`${name}_${side}`];
    return share === null ? null : 100 * share;
  };
  const bar = (side) => ({
    mean: percent('accuracy', side),
    low: percent('low', side),
    high: percent('high', side),
  });
  return pairRow(
    {
      name: run.model,
      tested: paired,
      stars: run.stars,
      published: run.published,
      bar,
      chance: run.summary.chance === null ? null : 100 * run.summary.chance,
      format: (mean) => `${mean.toFixed(1)}%`,
      gap: (tested) => difference(tested, 1, 100),
      data: (mean) => mean / 100,
    },
    x,
    right,
  );
}

/** What the marks of paired bars mean. */
const pairKey = (published, chance = false) =>
  legend(
    [swatch(SETTING_COLOURS.with_reasoning), 'with reasoning'],
    [swatch(SETTING_COLOURS.without_reasoning), 'without reasoning'],
    [s('path', { d: 'M2 6H16M2 2v8M16 2v8', class: 'whisker' }), '95% bootstrap interval over items'],
    chance && [s('path', { d: 'M9 0V12', class: 'chance' }), 'guessing'],
    published && [diamond(9, 6), 'published value'],
  );

const accuracyFigure = () =>
  figure({ id: 'accuracy', title: 'Accuracy with and without reasoning', keys: [] }, drawAccuracy);

function drawAccuracy(body, width) {
  const graded = DATA.evaluation.filter((run) => run.summary.paired.accuracy_with !== null);
  if (!graded.length) return { missing: 'No answers are graded in all settings yet: dvc repro evaluate.' };
  const names = [...new Set(graded.map((run) => run.dataset))];
  const each = names.length > 1 && width > 760 ? (width - 28) / 2 : width;
  const panels = names.map((name) => {
    const runs = graded.filter((run) => run.dataset === name);
    const bottom = 70 * runs.length;
    const x = linear(0, 100, 8, each - 62);
    const rows = runs.map((run, at) =>
      fill(accuracyRow(run, x, each - 4), { transform: `translate(0 ${70 * at})` }, []),
    );
    return panel(
      each,
      h('h4', {}, `${name} (${[...new Set(runs.map((run) => run.summary.decoding))].join(', ')})`),
      picture(
        each,
        bottom + 22,
        `Accuracy on ${name}`,
        xAxis(x, [0, 25, 50, 75, 100], 20, bottom, (v) => `${v}%`),
        rows,
      ),
    );
  });
  body.append(
    h('div', { class: 'panels' }, panels),
    pairKey(
      graded.some((run) => run.published),
      graded.some((run) => run.summary.chance !== null),
    ),
    accuracyTable(graded),
  );
  const columns = [
    'n',
    'accuracy_with',
    'low_with',
    'high_with',
    'accuracy_without',
    'low_without',
    'high_without',
    'difference',
    'low_difference',
    'high_difference',
    't',
    'p',
    'mcnemar_p',
    'win',
    'tie',
    'loss',
  ];
  return {
    caption:
      'Share of right answers over the items that are valid in all settings (n); difference in points with its 95% ' +
      'interval. Guessing: all possible answers alike. Exact McNemar test, or the paired t-test where scores are means ' +
      'over several runs: *** p < 0.001, ** p < 0.01, * p < 0.05, n.s. otherwise. t does not exist where all items differ alike.',
    csv: () => [
      ['model', 'dataset', 'decoding', 'chance', ...columns],
      ...graded.map((run) => [
        run.model,
        run.dataset,
        run.summary.decoding,
        run.summary.chance,
        ...columns.map((name) => run.summary.paired[name]),
      ]),
    ],
  };
}

/** Table 3: both accuracies, their difference, chance and the tests. */
function accuracyTable(graded) {
  const percent = (share) => fixed(share === null ? null : 100 * share, 1);
  const small = (p) => (p === null || p >= 0.001 ? show(p, 3) : p.toExponential(1).replace('-', '\u2212'));
  const rows = graded.map(({ model, dataset, summary: { paired, chance } }) => [
    `${model} on ${dataset}`,
    paired.n,
    percent(chance),
    percent(paired.accuracy_with),
    percent(paired.accuracy_without),
    difference(paired, 1, 100),
    small(paired.mcnemar_p),
    paired.t === null ? paired.reason : `${fixed(paired.t, 2)} (p = ${small(paired.p)})`,
  ]);
  const numbers = ['n', 'guessing (%)', 'with (%)', 'without (%)', 'difference', 'McNemar p', 'paired t'];
  return table([['model and dataset'], ...numbers.map((name) => [name, 'number'])], rows, 'tests');
}

const funnelFigure = () => figure({ id: 'funnel', title: 'Funnel: which responses count', keys: [] }, drawFunnel);

function drawFunnel(body) {
  const runs = DATA.evaluation.filter((run) => run.dataset === STATE.dataset);
  if (!runs.length) return { missing: `Nothing is evaluated on ${STATE.dataset} yet: dvc repro evaluate.` };
  const rows = runs.flatMap((run) =>
    SIDES.filter(([setting]) => run.summary.funnel[setting]).map(([setting, side]) => {
      const { once, twice } = run.summary.funnel[setting];
      const retried = run.summary.retried > 0;
      const cells = STEPS.map(([step]) => {
        const bar = h('span', { class: 'bar-under' });
        bar.style.width = `${(100 * twice[step]) / Math.max(twice.all, 1)}%`;
        bar.style.backgroundColor = SETTING_COLOURS[setting];
        return h(
          'span',
          { class: 'bar-cell' },
          bar,
          retried && step !== 'all' ? `${once[step]} / ${twice[step]}` : once[step],
        );
      });
      const length = run.summary.tokens?.[setting] ?? {};
      return [run.model, side, ...cells, show(length.reasoning, 0), show(length.answer, 0)];
    }),
  );
  body.append(
    table(
      [
        ['model'],
        ['reasoning'],
        ...STEPS.map(([, name]) => [name]),
        ['reasoning tokens', 'number'],
        ['answer tokens', 'number'],
      ],
      rows,
      'funnel',
    ),
  );
  return {
    caption:
      `Responses on ${STATE.dataset} that pass each step, in order; each step counts only those that passed the one ` +
      'before. ' +
      'common: valid in all settings. Where failed items were tried again: first attempts / after the second attempt. ' +
      'Token counts are means over valid responses.',
    csv: () => [
      ['model', 'dataset', 'setting', 'attempts', ...STEPS.map(([step]) => step)],
      ...runs.flatMap((run) =>
        Object.entries(run.summary.funnel).flatMap(([setting, counts]) =>
          Object.entries(counts).map(([attempts, steps]) => [
            run.model,
            run.dataset,
            setting,
            attempts,
            ...STEPS.map(([step]) => steps[step]),
          ]),
        ),
      ),
    ],
  };
}
