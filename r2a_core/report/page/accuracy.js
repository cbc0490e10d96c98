// Figure 1a: accuracy with and without reasoning; and the funnel (Table 2).

const SIDES = [['with_reasoning', 'with'], ['without_reasoning', 'without']];
const STEPS = [['all', 'all'], ['finished', 'finished'], ['think_format', 'think format'], ['answer_format', 'answer format'],
  ['common', 'common']];

function accuracyRow(run, x, right) {
  const paired = run.summary.paired, group = s('g', {});
  SIDES.forEach(([setting, side], line) => {
    const y = 24 + 22 * line, mean = paired[`accuracy_${side}`];
    const [low, high] = [x(100 * paired[`low_${side}`]), x(100 * paired[`high_${side}`])];
    group.append(s('rect', { x: x(0), y, width: Math.max(x(100 * mean) - x(0), 0.5), height: 17, fill: SETTING_COLOURS[setting],
      'data-value': mean, 'data-side': side }));
    group.append(s('path', { d: `M${low} ${y + 8.5}H${high}M${low} ${y + 4}v9M${high} ${y + 4}v9`, class: 'whisker' }));
    group.append(s('text', { x: right, y: y + 13, 'text-anchor': 'end', class: 'value' }, `${(100 * mean).toFixed(1)}%`));
    if (run.published) group.append(diamond(x(run.published[setting]), y + 8.5));
  });
  const test = run.stars || 'no test';
  const p = paired.p === null ? paired.reason : `p = ${show(paired.p, 3)}`;
  group.append(s('text', { x: x(0), y: 16 }, s('tspan', { class: 'strong' }, run.model),
    s('tspan', { class: 'muted', dx: 8 }, `n = ${paired.n}, ${test} (${p})`)));
  return group;
}

const accuracyFigure = () => figure({ id: 'accuracy', title: 'Accuracy with and without reasoning', keys: [], draw: (body, width) => {
  const graded = DATA.evaluation.filter((run) => run.summary.paired.accuracy_with !== null);
  if (!graded.length) return { missing: 'No answers are graded in both settings yet: dvc repro evaluate.' };
  const names = [...new Set(graded.map((run) => run.dataset))];
  const each = names.length > 1 && width > 760 ? (width - 28) / 2 : width;
  const panels = names.map((name) => {
    const runs = graded.filter((run) => run.dataset === name), bottom = 70 * runs.length;
    const x = linear(0, 100, 8, each - 62);
    const rows = runs.map((run, at) => fill(accuracyRow(run, x, each - 4), { transform: `translate(0 ${70 * at})` }, []));
    return panel(each, h('h4', {}, `${name} (${[...new Set(runs.map((run) => run.summary.decoding))].join(', ')})`),
      picture(each, bottom + 22, `Accuracy on ${name}`, xAxis(x, [0, 25, 50, 75, 100], 20, bottom, (v) => `${v}%`), rows));
  });
  body.append(h('div', { class: 'panels' }, panels), key([swatch(BLUE), 'with reasoning'], [swatch(ORANGE), 'without reasoning'],
    [s('path', { d: 'M2 6H16M2 2v8M16 2v8', class: 'whisker' }), '95% bootstrap interval over items'],
    graded.some((run) => run.published) && [diamond(9, 6), 'published value']));
  const columns = ['n', 'accuracy_with', 'low_with', 'high_with', 'accuracy_without', 'low_without', 'high_without', 'difference',
    't', 'p', 'mcnemar_p', 'win', 'tie', 'loss'];
  return { caption: 'Share of right answers over the items that are valid in both settings (n). Paired t-test over items: '
    + '*** p < 0.001, ** p < 0.01, * p < 0.05, n.s. otherwise.',
  csv: () => [['model', 'dataset', 'decoding', ...columns], ...graded.map((run) => [run.model, run.dataset, run.summary.decoding,
    ...columns.map((name) => run.summary.paired[name])])] };
} });

const funnelFigure = () => figure({ id: 'funnel', title: 'Funnel: which responses count', keys: [], draw: (body) => {
  const runs = DATA.evaluation.filter((run) => run.dataset === STATE.dataset);
  if (!runs.length) return { missing: `Nothing is evaluated on ${STATE.dataset} yet: dvc repro evaluate.` };
  const rows = runs.flatMap((run) => SIDES.filter(([setting]) => run.summary.funnel[setting]).map(([setting, side]) => {
    const { once, twice } = run.summary.funnel[setting], retried = run.summary.retried > 0;
    const cells = STEPS.map(([step]) => {
      const bar = h('span', { class: 'bar-under' });
      bar.style.width = `${(100 * twice[step]) / Math.max(twice.all, 1)}%`;
      bar.style.backgroundColor = SETTING_COLOURS[setting];
      return h('span', { class: 'bar-cell' }, bar, retried && step !== 'all' ? `${once[step]} / ${twice[step]}` : once[step]);
    });
    const length = run.summary.tokens?.[setting] ?? {};
    return [run.model, side, ...cells, show(length.reasoning, 0), show(length.answer, 0)];
  }));
  body.append(table([['model'], ['reasoning'], ...STEPS.map(([, name]) => [name]), ['reasoning tokens', 'number'],
    ['answer tokens', 'number']], rows, 'funnel'));
  return { caption: `Responses on ${STATE.dataset} that pass each step, in order; each step counts only those that passed the one before. `
    + 'common: valid in both settings. Where failed items were tried again: first attempts / after the second attempt. '
    + 'Token counts are means over valid responses.',
  csv: () => [['model', 'dataset', 'setting', 'attempts', ...STEPS.map(([step]) => step)], ...runs.flatMap((run) =>
    Object.entries(run.summary.funnel).flatMap(([setting, counts]) => Object.entries(counts).map(([attempts, steps]) =>
      [run.model, run.dataset, setting, attempts, ...STEPS.map(([step]) => steps[step])])))] };
} });
