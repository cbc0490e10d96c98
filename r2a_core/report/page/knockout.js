// What the answer loses when heads no longer see the reasoning: a row per set, beside random sets of the same layers.

const PARTS = { loss: 'answer', result_loss: 'result' };

function knockoutPanel(sets, part, width) {
  const losses = sets.flatMap((one) => [one[part].low, one[part].high, ...(one[part].random?.means ?? [])]);
  return [
    h('h4', {}, `loss of the ${PARTS[part]}`),
    lossChart({
      width,
      label: `Log-probability that a token of the ${PARTS[part]} loses, by set of heads`,
      rows: sets,
      losses,
      data: (one) => ({ 'data-set': `${one.kind} ${one.set} ${one.k}` }),
      marks: (one, x, y) => {
        const { random } = one[part];
        const said = `${one.set} ${one.k}, ${words(one.kind)}: ${withInterval(one[part])}`;
        return [
          (random?.means ?? []).map((value) => s('circle', { cx: x(value), cy: y, r: 2, fill: '#999999' })),
          intervalMark(
            x,
            y,
            one[part],
            DATA.cut_colours[one.kind],
            random ? `${said}; p = ${show(random.p, 2)}` : said,
          ),
        ];
      },
    }),
  ];
}

function drawKnockout(body, width) {
  const run = chosenRun('knockout');
  if (!run)
    return { missing: `The heads of ${STATE.model} have not been cut on ${STATE.dataset}: dvc repro knockout.` };
  body.append(
    panels(
      width,
      Object.keys(PARTS).map((part) => (each) => knockoutPanel(run.sets, part, each)),
    ),
    legend(
      ...[...new Set(run.sets.map((one) => one.kind))].map((kind) => [swatch(DATA.cut_colours[kind]), words(kind)]),
      [s('circle', { cx: 9, cy: 6, r: 2.5, fill: '#999999' }), 'random sets of the same layers'],
    ),
    itemLinks(Object.keys(run.items)),
  );
  return {
    answer: run.answer,
    words: run.sentences,
    caption:
      `${STATE.model} on ${STATE.dataset}: from </think> on, chosen heads lose the reasoning. Mean over ` +
      `${counted(run.sets[0].n_traces, 'trace')}, lines 95% intervals; number: heads of the set. ` +
      `${Object.entries(DATA.set_names)
        .map(([name, text]) => `${name}: ${text}`)
        .join('; ')}; none: run again without a cut.`,
    csv: () =>
      run.sets.flatMap(({ kind, set, k, ...parts }) =>
        Object.entries(PARTS).map(([part, noun]) => {
          const { mean: loss, low, high, random } = parts[part];
          const own = { model: STATE.model, dataset: STATE.dataset, kind, set, k, part: noun };
          return { ...own, loss, low, high, p: random?.p };
        }),
      ),
  };
}
