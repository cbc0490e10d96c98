// What heads make of the reasoning beyond its length: mass and excess of each, what length does to each score, odds.

function excessPanel(heads, width) {
  const at = heads.layer.map((layer, index) => index).filter((index) => heads.excess[index] !== null);
  const values = at.map((index) => heads.excess[index]);
  const [low, high] = [Math.min(-0.02, ...values), Math.max(0.02, ...values)];
  const [left, top, tall] = [52, 8, 220];
  const x = linear(0, 1, left, width - 12);
  const y = linear(high, low, top, top + tall);
  const chosen = chosenHead();
  return [
    h('h4', {}, 'share of attention, and how much of it distance does not explain'),
    picture(
      width,
      top + tall + 44,
      'Mass on the reasoning of each head, and what its reading by distance does not explain',
      xAxis(x, ticks(0, 1, 5), top, top + tall, (value) => show(value, 2)),
      yAxis(y, ticks(low, high, 5), left, left),
      s('line', { x1: left, x2: width - 12, y1: y(0), y2: y(0), class: 'cross-line' }),
      at.map((index) => {
        const name = headName(heads.layer[index], heads.head[index]);
        const kept = heads.rank_by_excess[index] !== null;
        const said = kept
          ? `rank ${heads.rank_by_excess[index]} beyond distance`
          : 'no more than even reading, or evenly';
        return s(
          'circle',
          {
            cx: x(heads.mass[index]),
            cy: y(heads.excess[index]),
            r: chosen && headName(...chosen) === name ? 6 : 3,
            class: 'pick',
            fill: kept ? BLUE : 'none',
            stroke: kept ? BLUE : '#999999',
            'data-head': name,
            onclick: () => choose({ head: name, view: '' }),
          },
          s(
            'title',
            {},
            `${name}: mass ${show(heads.mass[index])}, ${show(heads.excess[index])} beyond distance, ${said}`,
          ),
        );
      }),
      axisTitle((left + width) / 2, top + tall + 38, 'mass on the reasoning'),
      axisTitle(11, top + tall / 2, 'beyond reading by distance', false),
    ),
  ];
}

const odds = (one) =>
  one.odds_ratio === null
    ? `\u2013 (${one.n_wrong} of ${one.n} wrong)`
    : `${show(one.odds_ratio, 2)} (${show(one.low, 2)} to ${show(one.high, 2)})`;

const walksFigure = () => figure({ id: 'walks', title: 'Beyond the length of the trace', keys: ['head'] }, drawWalks);

function drawWalks(body, width) {
  const run = findRecord('walks', { model: STATE.model, dataset: STATE.dataset });
  if (!run)
    return { missing: `The walks of ${STATE.model} on ${STATE.dataset} have not been measured: dvc repro walks.` };
  const numbersPanel = () => [
    h('h4', {}, 'r of each score with the length of the reasoning, median over heads'),
    facts(run.lengths.map((one) => [one.label, show(one.median, 2)])),
    h('h4', {}, 'odds of a wrong answer, walk 1 SD worse (95%)'),
    facts(
      run.odds.flatMap((one) => [
        [one.label, odds(one.own)],
        ['in all datasets', odds(one.pooled)],
      ]),
    ),
  ];
  body.append(
    panels(width, [(each) => excessPanel(run.heads, each), numbersPanel]),
    legend(
      [swatch(BLUE), 'reads the reasoning more than even reading does, and not evenly'],
      [s('circle', { cx: 9, cy: 6, r: 3, fill: 'none', stroke: '#999999' }), 'other heads'],
    ),
  );
  const columns = Object.keys(run.heads);
  return {
    answer: run.answer,
    words: run.sentences,
    caption:
      `A dot is a head of ${STATE.model}, mean over ${counted(run.n_traces, 'trace')} of ${STATE.dataset}. ` +
      'Choose one to see it in the other figures.',
    csv: () => [columns, ...run.heads.layer.map((_, index) => columns.map((name) => run.heads[name][index]))],
  };
}
