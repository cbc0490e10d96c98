// What heads make of the reasoning beyond its length: mass and excess of each, what length does to each score, odds.

function excessPanel(heads, width, title, read) {
  const at = heads.layer.map((_, index) => index).filter((index) => heads.excess[index] !== null);
  const values = at.map((index) => heads.excess[index]);
  const ends = [Math.min(-0.02, ...values), Math.max(0.02, ...values)];
  const chosen = chosenHead();
  const dot = (index, x, y) => {
    const name = headName(heads.layer[index], heads.head[index]);
    const [mass, excess, rank] = [heads.mass[index], heads.excess[index], heads.rank_by_excess[index]];
    const kept = rank !== null;
    const place = kept ? `rank ${rank} beyond distance` : 'no more than even reading, sinks left out, or evenly';
    const look = { fill: kept ? BLUE : 'none', stroke: kept ? BLUE : '#999999', class: 'pick' };
    const radius = chosen && headName(...chosen) === name ? 6 : 3;
    const said = `mass ${show(mass)}, ${show(excess)} beyond distance, ${place}`;
    return headDot(name, said, { ...look, cx: x(mass), cy: y(excess), r: radius });
  };
  return [
    h('h4', {}, title),
    scatter({
      width,
      label: `Mass of each head on ${read}, and what its reading by distance does not explain`,
      across: { ends: [0, 1], at: ticks(0, 1, 5), title: `mass on ${read}`, format: (value) => show(value, 2) },
      up: { ends, at: ticks(...ends, 5), title: 'beyond reading by distance' },
      marks: (x, y) => [crossLine(x(0), y(0), x(1), y(0)), at.map((index) => dot(index, x, y))],
    }),
  ];
}

const odds = (one) =>
  one.odds_ratio === null
    ? `\u2013 (${one.n_wrong} of ${one.n} wrong)`
    : `${show(one.odds_ratio, 2)} (${show(one.low, 2)} to ${show(one.high, 2)})`;

function drawWalks(body, width) {
  const run = chosenRun('walks');
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
    panels(width, [
      (each) => excessPanel(run.heads, each, 'of the answer, what distance does not explain', 'the reasoning'),
      ...run.views.map(
        (one) => (each) =>
          excessPanel(one.heads, each, 'rows of the reasoning: mass that distance does not explain', one.read),
      ),
      numbersPanel,
    ]),
    legend(
      [swatch(BLUE), 'reads it more than even reading does, sinks left out, and not evenly'],
      [s('circle', { cx: 9, cy: 6, r: 3, fill: 'none', stroke: '#999999' }), 'other heads'],
    ),
  );
  return {
    answer: run.answer,
    words: run.sentences,
    caption:
      `A dot is a head of ${STATE.model}, mean over ${counted(run.n_traces, 'trace')} of ${STATE.dataset}. ` +
      'Choose one to see it in the other figures.',
    csv: () => rowsOf(run.heads),
  };
}
