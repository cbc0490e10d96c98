// What the answer loses when heads no longer see the reasoning: a row per set, beside random sets of the same layers.

const PARTS = { loss: 'answer', result_loss: 'result' };
const KINDS = { mask: BLUE, zero: ORANGE, zero_head: VERMILION, mean_head: PURPLE };

function knockoutPanel(sets, part, width) {
  const ends = sets.flatMap((one) => [one[part].low, one[part].high, ...(one[part].random?.means ?? [])]);
  const [low, high] = [Math.min(0, ...ends), Math.max(0.01, ...ends)];
  const [left, bottom] = [128, 14 + 20 * sets.length];
  const x = linear(low, high, left, width - 14);
  const row = (at) => 20 + 20 * at;
  const dot = (value, at, radius, fill, title) =>
    s('circle', { cx: x(value), cy: row(at), r: radius, fill }, title && s('title', {}, title));
  return panel(
    width,
    h('h4', {}, `loss of the ${PARTS[part]}`),
    picture(
      width,
      bottom + 40,
      `Log-probability that a token of the ${PARTS[part]} loses, by set of heads`,
      xAxis(x, ticks(low, high, 5), 8, bottom, (value) => show(value, 2)),
      s('line', { x1: x(0), x2: x(0), y1: 8, y2: bottom, class: 'cross-line' }),
      sets.map((one, at) => {
        const { mean, low: from, high: to, random } = one[part];
        const said = `${one.set} ${one.k}, ${words(one.kind)}: ${show(mean)} (95% ${show(from)} to ${show(to)})`;
        return s(
          'g',
          { 'data-set': `${one.kind} ${one.set} ${one.k}` },
          textAt(left - 8, row(at) + 4, 'end', `${one.set} ${one.k}`),
          (random?.means ?? []).map((value) => dot(value, at, 2, '#999999')),
          s('line', { x1: x(from), x2: x(to), y1: row(at), y2: row(at), stroke: KINDS[one.kind], 'stroke-width': 2 }),
          dot(mean, at, 4, KINDS[one.kind], random ? `${said}; p = ${show(random.p, 2)}` : said),
        );
      }),
      axisTitle((left + width) / 2, bottom + 34, 'nats per token'),
    ),
  );
}

const knockoutFigure = () => figure({ id: 'cuts', title: 'What cutting heads costs', keys: [] }, drawKnockout);

function drawKnockout(body, width) {
  const run = findRecord('knockout', { model: STATE.model, dataset: STATE.dataset });
  if (!run) return { missing: `The heads of ${STATE.model} have not been cut on ${STATE.dataset}: dvc repro knockout.` };
  const each = width > 720 ? (width - 28) / 2 : width;
  body.append(
    ...run.sentences.map((text) => h('p', {}, text)),
    h('div', { class: 'panels' }, Object.keys(PARTS).map((part) => knockoutPanel(run.sets, part, each))),
    legend(
      ...[...new Set(run.sets.map((one) => one.kind))].map((kind) => [swatch(KINDS[kind]), words(kind)]),
      [s('circle', { cx: 9, cy: 6, r: 2.5, fill: '#999999' }), 'random sets of the same layers'],
    ),
  );
  return {
    caption:
      `${STATE.model} on ${STATE.dataset}: from </think> on, chosen heads lose the reasoning. Mean over ` +
      `${counted(run.sets[0].n_traces, 'trace')}, lines 95% intervals; number: heads of the set. none: run again without a cut.`,
    csv: () => [
      ['model', 'dataset', 'kind', 'set', 'k', 'part', 'loss', 'low', 'high', 'p'],
      ...run.sets.flatMap((one) =>
        Object.entries(PARTS).map(([part, noun]) => [
          ...[STATE.model, STATE.dataset, one.kind, one.set, one.k, noun],
          ...[one[part].mean, one[part].low, one[part].high, one[part].random?.p ?? null],
        ]),
      ),
    ],
  };
}
