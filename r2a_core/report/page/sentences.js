// What hiding each sentence of the reasoning does to the answer, and what length leaves of receiver heads.

const LEAST_KL = 1e-5; // nats; what is less is drawn here

function hiddenPanel({ points, hidden }, width) {
  const at = points.sentence.map((_, index) => index).filter((index) => points.attended[index] !== null);
  const log = (value) => Math.log10(Math.max(value, LEAST_KL));
  const cost = at.map((index) => log(points.answer_kl[index]));
  const most = Math.max(1, ...at.map((index) => points.attended[index]));
  const [low, high] = [Math.min(-4, ...cost), Math.max(-1, ...cost)];
  const [left, top, bottom] = [58, 8, 228];
  const [x, y] = [linear(0, most, left, width - 14), linear(high, low, top, bottom)];
  const floor = hidden.rounding.answer_kl;
  const items = [...new Set(points.item_id)];
  const palette = [BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE];
  return [
    h('h4', {}, 'each sentence, hidden from all that follows'),
    picture(
      width,
      bottom + 44,
      'Divergence of the answer when a sentence is hidden, by the attention that the answer gives the sentence',
      xAxis(x, ticks(0, most, 5), top, bottom, (value) => show(value, 1)),
      yAxis(y, wholeTicks(low, high), left, width - 14, (value) => show(10 ** value, Math.max(0, -value))),
      floor < LEAST_KL
        ? null
        : s('line', { x1: left, x2: width - 14, y1: y(log(floor)), y2: y(log(floor)), class: 'cross-line' }),
      at.map((index, place) => {
        const [item, sentence] = [points.item_id[index], points.sentence[index]];
        const said =
          `${item}, sentence ${sentence + 1}: ${points.text[index].trim()} ` +
          `(${show(points.attended[index], 2)} times even reading; ${show(points.answer_kl[index], 4)} nats)`;
        const dot = { cx: x(points.attended[index]), cy: y(cost[place]), r: 3.5, 'fill-opacity': 0.8, class: 'pick' };
        const fill = palette[items.indexOf(item) % palette.length];
        return s(
          'circle',
          { ...dot, fill, 'data-sentence': `${item} ${sentence}`, onclick: () => openItem(item) },
          s('title', {}, visible(said)),
        );
      }),
      axisTitle((left + width) / 2, bottom + 38, 'attention of the answer over even reading'),
      axisTitle(11, (top + bottom) / 2, 'KL of the answer (nats)', false),
    ),
  ];
}

function receiversPanel(kinds, width) {
  const name = (one) => `${one.label}, ${one.proximity}`;
  const dot = (x, y, value, colour, said) =>
    value !== null && s('circle', { cx: x(value), cy: y, r: 4.5, fill: colour }, s('title', {}, said));
  return [
    h('h4', {}, 'receiver heads: r of kurtosis'),
    rowChart({
      width,
      label: 'Correlation of kurtosis with the number of sentences, and between halves of the traces',
      rows: kinds,
      ends: [-1, 1],
      format: (value) => show(value, 1),
      unit: 'Pearson r',
      guides: [0],
      name,
      data: (one) => ({ 'data-kind': name(one) }),
      marks: (one, x, y) => [
        dot(x, y, one.length, ORANGE, `${show(one.length, 2)} with the number of sentences, n = ${one.n_traces}`),
        dot(x, y, one.reliability, BLUE, `${show(one.reliability, 2)} between halves of ${one.n_traces} traces`),
      ],
    }),
  ];
}

const sentencesFigure = () => figure({ id: 'hidden', title: 'What hiding a sentence does', keys: [] }, drawSentences);

function drawSentences(body, width) {
  const run = findRecord('sentences', { model: STATE.model, dataset: STATE.dataset });
  if (!run)
    return {
      missing: `The sentences of ${STATE.model} on ${STATE.dataset} have not been hidden: dvc repro sentences.`,
    };
  body.append(
    panels(width, [
      (each) => hiddenPanel(run, each),
      ...(run.receivers.length ? [(each) => receiversPanel(run.receivers, each)] : []),
    ]),
    legend(
      [swatch(ORANGE), 'r with the number of sentences, over traces (median of heads)'],
      [swatch(BLUE), 'r of heads in odd and in even traces'],
    ),
  );
  const columns = Object.keys(run.points);
  return {
    answer: run.answer,
    words: run.sentences,
    caption:
      `${STATE.model} on ${STATE.dataset}: a dot is a sentence of the reasoning, a colour one of ` +
      `${counted(run.hidden.n_traces, 'trace')}; a line is what rounding alone does. Numbers at the right: sentences ` +
      'between those that count, at least. Choose a dot to see its question with all evidence.',
    csv: () => [columns, ...run.points.sentence.map((_, index) => columns.map((name) => run.points[name][index]))],
  };
}
