// What hiding each sentence of the reasoning does to the answer, and what length leaves of receiver heads.

const LEAST_KL = 1e-5; // nats; what is less is drawn here

function hiddenPanel({ points, hidden }, width) {
  const at = points.sentence.map((_, index) => index).filter((index) => points.attended[index] !== null);
  const log = (value) => Math.log10(Math.max(value, LEAST_KL));
  const cost = at.map((index) => log(points.answer_kl[index]));
  const most = Math.max(1, ...at.map((index) => points.attended[index]));
  const ends = [Math.min(-4, ...cost), Math.max(-1, ...cost)];
  const floor = hidden.rounding.answer_kl;
  const items = [...new Set(points.item_id)];
  const palette = [GREEN, VERMILION, SKY, PURPLE]; // blue and orange have a meaning beside it
  const dot = (index, x, y) => {
    const [item, sentence, attended] = [points.item_id[index], points.sentence[index], points.attended[index]];
    const said =
      `${item}, sentence ${sentence + 1}: ${points.text[index].trim()} ` +
      `(${show(attended, 2)} times even reading; ${show(points.answer_kl[index], 4)} nats)`;
    const look = { r: 3.5, fill: palette[items.indexOf(item) % palette.length], 'fill-opacity': 0.8, class: 'pick' };
    const place = { cx: x(attended), cy: y(log(points.answer_kl[index])), 'data-sentence': `${item} ${sentence}` };
    return s('circle', { ...look, ...place, onclick: () => openItem(item) }, s('title', {}, visible(said)));
  };
  const power = (value) => show(10 ** value, Math.max(0, -value));
  return [
    h('h4', {}, 'each sentence, hidden from all that follows'),
    scatter({
      width,
      label: 'Divergence of the answer when a sentence is hidden, by the attention that the answer gives the sentence',
      across: {
        ends: [0, most],
        at: ticks(0, most, 5),
        title: 'attention of the answer over even reading',
        format: (value) => show(value, 1),
      },
      up: { ends, at: wholeTicks(...ends), title: 'KL of the answer (nats)', format: power },
      marks: (x, y) => [
        floor >= LEAST_KL && crossLine(x(0), y(log(floor)), x(most), y(log(floor))),
        at.map((index) => dot(index, x, y)),
      ],
    }),
  ];
}

const tooFew = ({ n_traces: enough, n_left_out: others }) =>
  `Too few traces to say: ${enough} with enough sentences and their stored rows, ${others} without.`;

function receiversPanel(kinds, width) {
  const title = h('h4', {}, 'receiver heads: r of kurtosis');
  if (kinds.every((one) => one.length === null && one.reliability === null))
    return [title, h('p', { class: 'note' }, tooFew(kinds[0]))];
  const name = (one) => `${one.label}, ${one.proximity}`;
  const dot = (x, y, value, colour, said) =>
    value !== null && s('circle', { cx: x(value), cy: y, r: 4.5, fill: colour }, s('title', {}, said));
  return [
    title,
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
    legend(
      [swatch(ORANGE), 'r with the number of sentences, over traces (median of heads)'],
      [swatch(BLUE), 'r of heads in odd and in even traces'],
    ),
    h('p', { class: 'note' }, 'Numbers after the names: sentences between those that count, at least.'),
  ];
}

function drawSentences(body, width) {
  const run = chosenRun('sentences');
  if (!run)
    return {
      missing: `The sentences of ${STATE.model} on ${STATE.dataset} have not been hidden: dvc repro sentences.`,
    };
  body.append(
    panels(width, [
      (each) => hiddenPanel(run, each),
      ...(run.receivers.length ? [(each) => receiversPanel(run.receivers, each)] : []),
    ]),
  );
  return {
    answer: run.answer,
    words: run.sentences,
    caption:
      `${STATE.model} on ${STATE.dataset}: a dot is a sentence of the reasoning, a colour one of ` +
      `${counted(run.hidden.n_traces, 'trace')}. ` +
      (run.hidden.rounding.answer_kl < LEAST_KL ? '' : 'Dashed: what rounding alone does. ') +
      'Choose a dot to see its question with all evidence.',
    csv: () => rowsOf(run.points),
  };
}
