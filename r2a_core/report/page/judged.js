// Figure 1b: a judge's mean scores with and without reasoning, by area. On the page only where answers were judged.

const judgedRuns = () => DATA.evaluation.filter((run) => run.judged);

function areaRow(record) {
  const side = (name) => ({ mean: record[`mean_${name}`], low: record[`low_${name}`], high: record[`high_${name}`] });
  const p = record.p === null ? '' : ` (p = ${show(record.p, 3)})`;
  const gap = record.stars ? `${difference(record, 2)}${p} ${record.stars}` : record.reason;
  const name = `${record.area}, n = ${record.n}`;
  return { name, gap, published: record.published, chance: null, with: side('with'), without: side('without') };
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

function drawJudged(body, width) {
  const runs = judgedRuns();
  const draws = runs.map((run) => (each) => {
    const areas = run.judged.filter((record) => record.n);
    const title = `${run.model} on ${run.dataset} (${run.summary.decoding})`;
    return [
      h('h4', {}, title),
      areas.length
        ? settingChart(areas.map(areaRow), `Judge scores of ${title}`, each, [1, 10])
        : h('p', { class: 'missing' }, 'No item was judged in all settings.'),
      h('p', { class: 'note' }, visible(judgeLine(run))),
    ];
  });
  body.append(panels(width, draws), settingKey(runs.some((run) => run.judged.some((record) => record.published))));
  return {
    caption: '*** p < 0.001, ** p < 0.01, * p < 0.05, n.s. otherwise.',
    csv: () =>
      runs.flatMap(({ model, dataset, summary: { decoding, judge }, judged }) =>
        judged.map((record) => ({
          ...{ model, dataset, decoding, judge: judge.model },
          ...picked(record, ['area', 'n', ...sidesOf('mean'), ...PAIRED]),
        })),
      ),
  };
}
