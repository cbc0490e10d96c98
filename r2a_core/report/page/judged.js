// Figure 1b: a judge's mean scores with and without reasoning, by area. On the page only where answers were judged.

const judgedRuns = () => DATA.evaluation.filter((run) => run.judged);

function areaRow(record, x, right) {
  const bar = (side) => ({ mean: record[`mean_${side}`], low: record[`low_${side}`], high: record[`high_${side}`] });
  return pairRow(
    {
      name: record.area,
      tested: record,
      stars: record.stars,
      published: record.published,
      bar,
      zero: 1,
      format: (mean) => mean.toFixed(2),
      gap: (tested) => `${difference(tested, 2)}${tested.p === null ? '' : ` (p = ${show(tested.p, 3)})`}`,
    },
    x,
    right,
  );
}

function judgeLine(run) {
  const { model, repeats, replies, disagreement } = run.summary.judge;
  const lost = replies.bad_reply + replies.refused;
  return (
    `Judge: ${model ?? 'not named by its server'}. ${counted(replies.ok, 'judgement')}` +
    (lost ? `, ${replies.bad_reply} replies of no use, ${replies.refused} refused` : '') +
    (disagreement.mean_difference === null
      ? '.'
      : `; ${repeats} of each response, ${show(disagreement.mean_difference, 2)} apart ` +
        `on average, equal in ${show(100 * disagreement.exact, 0)}% of pairs.`)
  );
}

const judgedFigure = () =>
  figure({ id: 'judged', title: 'Judge scores with and without reasoning', keys: [] }, drawJudged);

function drawJudged(body, width) {
  const runs = judgedRuns();
  const each = runs.length > 1 && width > 760 ? (width - 28) / 2 : width;
  const x = linear(1, 10, 8, each - 62);
  const panels = runs.map((run) => {
    const areas = run.judged.filter((record) => record.n);
    const bottom = 70 * areas.length;
    const rows = areas.map((record, at) =>
      fill(areaRow(record, x, each - 4), { transform: `translate(0 ${70 * at})` }, []),
    );
    const title = `${run.model} on ${run.dataset} (${run.summary.decoding})`;
    return panel(
      each,
      h('h4', {}, title),
      areas.length
        ? picture(
            each,
            bottom + 22,
            `Judge scores of ${title}`,
            xAxis(x, [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], 20, bottom),
            rows,
          )
        : h('p', { class: 'missing' }, 'No item was judged in all settings.'),
      h('p', { class: 'note' }, visible(judgeLine(run))),
    );
  });
  body.append(
    h('div', { class: 'panels' }, panels),
    pairKey(runs.some((run) => run.judged.some((record) => record.published))),
  );
  const columns = [
    'area',
    'n',
    'mean_with',
    'low_with',
    'high_with',
    'mean_without',
    'low_without',
    'high_without',
    'difference',
    'low_difference',
    'high_difference',
    't',
    'p',
    'win',
    'tie',
    'loss',
  ];
  return {
    caption:
      'Mean score from 1 to 10 over the items that are valid and judged in all settings (n). ' +
      'Paired t-test over items: ' +
      '*** p < 0.001, ** p < 0.01, * p < 0.05, n.s. otherwise.',
    csv: () => [
      ['model', 'dataset', 'decoding', 'judge', ...columns],
      ...runs.flatMap((run) =>
        run.judged.map((record) => [
          run.model,
          run.dataset,
          run.summary.decoding,
          run.summary.judge.model,
          ...columns.map((name) => record[name]),
        ]),
      ),
    ],
  };
}
