// Figure 1a and Table 3: accuracy with and without reasoning, in rows that judge scores (Figure 1b) share; the funnel
// (Table 2).

const SIDES = [
  ['with_reasoning', 'with'],
  ['without_reasoning', 'without'],
];
const RUN_SIDES = SIDES.filter(([setting]) => DATA.overview.settings.includes(setting));
const STEPS = [
  ['all', 'all'],
  ['finished', 'finished'],
  ['think_format', 'think format'],
  ['answer_format', 'answer format'],
  ['common', 'valid in both'],
];
const PAIRED = ['difference', 'low_difference', 'high_difference', 't', 'p', 'win', 'tie', 'loss'];
const sidesOf = (name) => SIDES.flatMap(([, side]) => [`${name}_${side}`, `low_${side}`, `high_${side}`]);

/**
 * Both settings in one row a case. rows: {name, gap, published, chance, with, without}, a side being {mean, low, high}
 * with mean null where it was not run; all in the units of the axis.
 */
function settingChart(rows, label, width, ends, format = String) {
  return rowChart({
    width,
    label,
    rows,
    ends,
    format,
    name: (row) => row.name,
    value: (row) => [row.gap, 'muted'],
    above: true,
    marks: (row, x, y) => {
      const ran = SIDES.filter(([, side]) => row[side].mean !== null);
      const [from, to] = [ran[0], ran.at(-1)].map(([, side]) => x(row[side].mean));
      return [
        s('line', { x1: from, x2: to, y1: y, y2: y, class: 'between' }),
        row.chance !== null &&
          s('path', { d: `M${x(row.chance)} ${y - 9}v18`, class: 'chance', 'data-chance': row.chance }),
        row.published && SIDES.map(([setting]) => diamond(x(row.published[setting]), y)),
        ran.map(([setting, side]) => {
          const said = `${side} reasoning: ${format(fixed(row[side].mean, 1))}`;
          const mark = intervalMark(x, y, row[side], SETTING_COLOURS[setting], said, 5);
          return s('g', { 'data-side': side, 'data-value': row[side].mean }, mark);
        }),
      ];
    },
  });
}

/** What the marks of such rows mean. */
const settingKey = (published, chance = false) =>
  legend(
    ...SIDES.map(([setting, side]) => [swatch(SETTING_COLOURS[setting]), `${side} reasoning`]),
    [s('path', { d: 'M1 6H17', class: 'whisker' }), '95% interval'],
    chance && [s('path', { d: 'M9 0V12', class: 'chance' }), 'guessing'],
    published && [diamond(9, 6), 'published value'],
  );

/** A difference with its interval, as in "+12.5 [8.1, 16.9]"; scale: 100 for points. */
function difference(tested, digits, scale = 1) {
  if (tested.difference === null) return '';
  const [mean, low, high] = ['', 'low_', 'high_'].map((end) => fixed(scale * tested[`${end}difference`], digits));
  return `${tested.difference < 0 ? '' : '+'}${mean}${tested.low_difference === null ? '' : ` [${low}, ${high}]`}`;
}

const gradedRuns = () => DATA.evaluation.filter((run) => run.summary.paired.accuracy_with !== null);

function accuracyRow(run) {
  const { paired, chance } = run.summary;
  const percent = (name) => (paired[name] === null ? null : 100 * paired[name]);
  const side = (name) => ({
    mean: percent(`accuracy_${name}`),
    low: percent(`low_${name}`),
    high: percent(`high_${name}`),
  });
  return {
    name: caseName(run),
    gap: run.stars ? `${difference(paired, 0, 100)} ${run.stars}` : paired.reason,
    published: run.published,
    chance: chance === null ? null : 100 * chance,
    with: side('with'),
    without: side('without'),
  };
}

function drawAccuracy(body, width) {
  const graded = gradedRuns();
  if (!graded.length) return { missing: 'No answers are graded in all settings yet: dvc repro evaluate.' };
  const rows = graded.map(accuracyRow);
  body.append(
    settingChart(rows, 'Accuracy with and without reasoning', width, [0, 100], (value) => `${value}%`),
    settingKey(
      graded.some((run) => run.published),
      rows.some((row) => row.chance !== null),
    ),
    accuracyTable(graded),
  );
  return {
    answer: DATA.overview.questions[0].answer,
    caption:
      `${casesSaid(graded, (run) => run.summary.paired.n)}. At the right: difference in points with its 95% interval; *** p < 0.001, ** p < 0.01, * p < 0.05, n.s. otherwise. ` +
      't does not exist where all items differ alike.',
    csv: () =>
      graded.map(({ model, dataset, summary: { decoding, chance, paired } }) => ({
        ...{ model, dataset, decoding, chance },
        ...picked(paired, ['n', ...sidesOf('accuracy'), ...PAIRED, 'mcnemar_p']),
      })),
  };
}

/** Table 3: both accuracies, their difference, chance and the tests. */
function accuracyTable(graded) {
  const percent = (share) => fixed(share === null ? null : 100 * share, 1);
  const rows = graded.map(({ model, dataset, summary: { paired, chance } }) => [
    `${model} on ${dataset}`,
    paired.n,
    percent(chance),
    percent(paired.accuracy_with),
    percent(paired.accuracy_without),
    difference(paired, 1, 100),
    show(paired.mcnemar_p),
    paired.t === null ? paired.reason : `${fixed(paired.t, 2)} (p = ${show(paired.p)})`,
  ]);
  const numbers = ['n', 'guessing (%)', 'with (%)', 'without (%)', 'difference', 'McNemar p', 'paired t'];
  return table([['model and dataset'], ...numbers.map((name) => [name, 'number'])], rows, 'tests');
}

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
    answer: runs.map((run) => run.funnel).join(' '),
    caption:
      `Responses on ${STATE.dataset} that pass each step and all before it. Where failed items were tried again: first ` +
      'attempts / after the second attempt. Token counts are means over valid responses.',
    csv: () =>
      runs.flatMap(({ model, dataset, summary }) =>
        Object.entries(summary.funnel).flatMap(([setting, counts]) =>
          Object.entries(counts).map(([attempts, steps]) => ({ model, dataset, setting, attempts, ...steps })),
        ),
      ),
  };
}
