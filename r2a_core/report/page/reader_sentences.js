// The sentences of the reasoning in the trace reader: how much of the answer’s attention each gets.

/** Sentences of a trace with their share of the answer's attention, and a token's over even reading, in one view. */
async function sentencesOf(trace, at) {
  const { start, end, reflection, masses } = trace.sentences;
  const values = (await numbers(masses)).values.slice(at * start.length, (at + 1) * start.length);
  const rows = trace.n_tokens - trace.think_close - 2;
  const seen = Array.from({ length: rows }, (_, row) => trace.think_close + 2 + row); // tokens that an answer token sees
  const even = seen.reduce((sum, tokens) => sum + 1 / tokens, 0) / rows;
  return start.map((from, number) => {
    const share = values[number] || 0;
    const ratio = share / (end[number] - from) / even;
    return { number, from, to: end[number], share, ratio, reflects: reflection[number] };
  });
}

const SENTENCE_CAPTION =
  'Each sentence of the reasoning is coloured by the attention that the answer gives a token of it, over even reading ' +
  'of all that an answer token sees: blue more, orange less, full at 8 times.';

/** Colours the sentences, on the strip only those that get most, and marks where each starts. */
function tintSentences(all, most, paint) {
  for (const one of all) {
    const strength = Math.min(Math.abs(Math.log2(Math.max(one.ratio, 1e-9))) / 3, 1);
    paint.mark(one.from, 'starts');
    paint.tint(one, strength, one.ratio > 1 ? READS : READ_BY, most.includes(one));
  }
}

const sentenceSaid = ({ number, from, to, share, ratio, reflects }, count) =>
  `Sentence ${number + 1} of ${count}, tokens ${from}\u2013${to - 1}: a token of it gets ${show(ratio, 2)} times ` +
  `even reading, all of it ${show(share, 4)} of the answer\u2019s attention, mean over its tokens` +
  `${reflects ? '; holds a reflection phrase' : ''}.`;

function sentenceTable(most, paint, pick) {
  const cells = (one) => [button(paint.quoted(one, 90), () => pick(one)), show(one.ratio, 2), show(one.share, 4)];
  const columns = [['most for a token of it'], ['times even reading', 'number'], ['share', 'number']];
  return table(columns, most.map(cells));
}

async function sentenceView({ trace, at, readout, holder, paint }) {
  if (!trace.sentences) {
    readout.textContent = 'No sentence masses are stored: dvc repro attention.';
    return null;
  }
  const all = await sentencesOf(trace, at);
  const most = [...all].sort((a, b) => b.ratio - a.ratio).slice(0, 10);
  tintSentences(all, most, paint);
  const total = `${show(100 * all.reduce((sum, one) => sum + one.share, 0), 0)}% of the answer\u2019s attention`;
  const line = h('p', {}, `The ${counted(all.length, 'sentence')} get ${total}. Point at one to see its share.`);
  const tell = (one) => {
    line.textContent = sentenceSaid(one, all.length);
  };
  const pick = (one) => {
    tell(one);
    paint.reveal(one.from);
    announce(line.textContent);
  };
  readout.replaceChildren(line, sentenceTable(most, paint, pick));
  holder.onpointerover = holder.onclick = ({ target }) => {
    const token = Number(target.dataset?.token);
    const under = all.find((one) => token >= one.from && token < one.to);
    if (under) tell(under);
  };
  return () =>
    all.map(({ number, from, to, share, ratio, reflects }) => ({
      ...{ sentence: number, start: from, end: to, reflection: reflects, mass: share, times_even: ratio },
    }));
}
