// What training added: each head of a reader against the same head of the model whose traces it reads.

function changePanel(record, score, width) {
  const ends = score.name === 'answer_to_reasoning' ? [0, 1] : [-1, 1];
  const side = Math.min(width - 60, 330);
  const [left, top] = [48, 8];
  const x = linear(...ends, left, left + side);
  const y = linear(...ends, top + side, top);
  const steps = [0, 0.25, 0.5, 0.75, 1].map((share) => ends[0] + share * (ends[1] - ends[0]));
  const index = new Map(score.layer.map((layer, at) => [headName(layer, score.head[at]), at]));
  const ring = (heads, radius, kind) =>
    heads
      .map((head) => index.get(headName(...head)))
      .filter((at) => at !== undefined)
      .map((at) => s('circle', { cx: x(score.before[at]), cy: y(score.after[at]), r: radius, class: kind }));
  const dots = [...index].map(([name, at]) =>
    s(
      'circle',
      {
        cx: x(score.before[at]),
        cy: y(score.after[at]),
        r: 3,
        class: 'dot pick',
        'data-head': name,
        onclick: () => choose({ head: name, view: '' }),
      },
      s('title', {}, `${name}: ${show(score.before[at])} before, ${show(score.after[at])} after`),
    ),
  );
  const chosen = chosenHead();
  return panel(
    left + side + 10,
    h(
      'h4',
      {},
      score.label,
      h('span', { class: 'muted' }, ` Spearman \u03c1 = ${show(score.spearman, 2)}, ${counted(index.size, 'head')}`),
    ),
    picture(
      left + side + 10,
      top + side + 40,
      `${score.label} of each head, before and after`,
      xAxis(x, steps, top, top + side),
      yAxis(y, steps, left, left + side),
      s('line', { x1: x(ends[0]), y1: y(ends[0]), x2: x(ends[1]), y2: y(ends[1]), class: 'cross-line' }),
      dots,
      ring(record.marks.walking_after, 7, 'walking'),
      ring(record.marks.rfh, 5, 'rfh'),
      chosen ? ring([chosen], 9, 'chosen') : [],
      axisTitle(left + side / 2, top + side + 34, `before: ${record.reader}`),
      axisTitle(11, top + side / 2, `after: ${record.model}`, false),
    ),
  );
}

const readersFigure = () =>
  figure({ id: 'readers', title: 'What training added to the heads', keys: ['head'] }, drawReaders);

function drawReaders(body, width) {
  const records = DATA.readers.filter((one) => one.model === STATE.model && one.dataset === STATE.dataset);
  if (!records.length) return { missing: `No model has read the traces of ${STATE.model} on ${STATE.dataset}.` };
  const names = (heads) => heads.map((head) => headName(...head)).join(', ') || 'none';
  for (const record of records) {
    const { rfh, walking_before, walking_after } = record.marks;
    body.append(
      h('h4', {}, `${record.reader} reads ${record.model}`),
      h(
        'div',
        { class: 'panels' },
        record.scores.map((score) => changePanel(record, score, width > 800 ? (width - 28) / 2 : width)),
      ),
      legend(
        [s('circle', { cx: 9, cy: 6, r: 5, class: 'rfh' }), `Reasoning-Focus Heads: ${names(rfh)}`],
        [s('circle', { cx: 9, cy: 6, r: 5, class: 'walking' }), `walking after: ${names(walking_after)}`],
        [s('path', { d: 'M1 6H17', class: 'cross-line' }), `no change. Walking before: ${names(walking_before)}`],
      ),
    );
  }
  return {
    answer: records.map((record) => record.answer).join(' '),
    caption:
      `A dot is a head, measured on the same n = ${counted(records[0].n_traces, 'trace')} of ${STATE.dataset}, which ` +
      `${STATE.model} wrote: across what it does in a model that only reads them, up what it does in ${STATE.model}. ` +
      'Choose a dot to see the head in the other figures.',
    csv: () => [
      ['reader', 'texts', 'dataset', 'score', 'layer', 'head', 'before', 'after'],
      ...records.flatMap((record) =>
        record.scores.flatMap((score) =>
          score.layer.map((layer, at) => [
            record.reader,
            record.model,
            record.dataset,
            score.name,
            layer,
            score.head[at],
            score.before[at],
            score.after[at],
          ]),
        ),
      ),
    ],
  };
}
