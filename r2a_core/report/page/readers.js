// What training added: each head of a reader against the same head of the model whose traces it reads.

function changePanel(record, score, width) {
  const ends = score.name === 'answer_to_reasoning' ? [0, 1] : [-1, 1];
  const at = [0, 0.25, 0.5, 0.75, 1].map((share) => ends[0] + share * (ends[1] - ends[0]));
  const index = new Map(score.layer.map((layer, place) => [headName(layer, score.head[place]), place]));
  const chosen = chosenHead();
  const marks = (x, y) => {
    const spot = (place) => ({ cx: x(score.before[place]), cy: y(score.after[place]) });
    const ring = (heads, r, kind) =>
      heads
        .map((head) => index.get(headName(...head)))
        .filter((place) => place !== undefined)
        .map((place) => s('circle', { ...spot(place), r, class: kind }));
    return [
      crossLine(x(ends[0]), y(ends[0]), x(ends[1]), y(ends[1])),
      [...index].map(([name, place]) => {
        const said = `${show(score.before[place])} before, ${show(score.after[place])} after`;
        return headDot(name, said, { ...spot(place), r: 3, class: 'dot pick' });
      }),
      ring(record.marks.walking_after, 7, 'walking'),
      ring(record.marks.rfh, 5, 'rfh'),
      chosen ? ring([chosen], 9, 'chosen') : [],
    ];
  };
  const side = Math.min(width, 390);
  const said = ` Spearman \u03c1 = ${show(score.spearman, 2)}, ${counted(index.size, 'head')}`;
  return panel(
    side,
    h('h4', {}, score.label, h('span', { class: 'muted' }, said)),
    scatter({
      width: side,
      tall: side - 64,
      label: `${score.label} of each head, before and after`,
      across: { ends, at, title: `before: ${record.reader}` },
      up: { ends, at, title: `after: ${record.model}` },
      marks,
    }),
  );
}

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
    csv: () =>
      records.flatMap(({ reader, model, dataset, scores }) =>
        scores.flatMap(({ name: score, layer, head, before, after }) =>
          rowsOf({ layer, head, before, after }).map((row) => ({ reader, texts: model, dataset, score, ...row })),
        ),
      ),
  };
}
