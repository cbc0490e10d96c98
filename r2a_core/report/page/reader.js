// The trace reader: the text of a trace and its strip; a token shows what it looks at and what looks at it, a sentence
// how much of the answer's attention it gets.

function viewAt(trace) {
  const wanted = STATE.view || STATE.head;
  const at = trace.views.findIndex((view) => view.name === wanted);
  return Math.max(at, 0);
}

const viewLabel = (view) =>
  ({ rfh_mean: 'top Reasoning-Focus Heads, mean', head_mean: 'all heads, mean' })[view.kind] ?? `head ${view.name}`;

const READS = [BLUE, SKY];
const READ_BY = [VERMILION, ORANGE];

/** What the reader shows; while it is the same, nothing is drawn again: to lay out 10,000 tokens takes a while. */
function readerSign() {
  const trace = chosenTrace();
  const { model, dataset, item, mode, token } = STATE;
  return JSON.stringify([model, dataset, item, mode, token, trace?.item_id, trace && viewAt(trace), isNight()]);
}

async function drawReader(body, width) {
  const trace = chosenTrace();
  if (!trace) return { missing: leftOut(`No traces of ${STATE.model} on ${STATE.dataset} to read yet: dvc repro maps.`) };
  const at = viewAt(trace);
  const text = await textOf(trace);
  const links = await linksOf(trace, at);
  const paint = painter(trace, text, width);
  lastPaint?.clear();
  lastPaint = paint;
  const readout = h('div', { class: 'readout', id: 'reader-readout', 'aria-live': 'off' });
  const { top, holder } = text;
  top.replaceChildren(await mapThumbs(trace, at), paint.strip, readout);
  const kept = holder.isConnected; // another view of the same trace: its text stays where it is
  if (!kept) body.append(top, holder, itemLinks([trace.item_id]));
  const bySentence = STATE.mode === 'sentences';
  const csv = bySentence
    ? await sentenceView(trace, at, readout, holder, paint)
    : tokenView(trace, links, text.texts, readout, holder, paint);
  return {
    kept,
    controls: [
      ...tracePicker(),
      picker(
        'heads',
        trace.views.map((each) => [each.name, viewLabel(each)]),
        'view',
        trace.views[at].name,
      ),
      picker('show', ['tokens', 'sentences'], 'mode'),
    ],
    caption:
      (STATE.item && STATE.item !== trace.item_id
        ? `No attention is here of ${visible(STATE.item)}; this is another. `
        : '') +
      `${visible(trace.item_id)}, one of ${counted(tracesHere().length, 'trace')}, ${STATE.model} on ${STATE.dataset}; ` +
      `${viewLabel(trace.views[at])}. ` +
      (bySentence
        ? 'Each sentence of the reasoning is coloured by the attention that the answer gives a token of it, over even ' +
          'attention to all that an answer token sees: blue more, orange less, full at 8 times.'
        : `Point at a token, or choose it with a click or the arrow keys (Esc releases it). Blue: what the model looks at ` +
          `while writing it (from the token before), the strongest ${links?.width ?? 0} of the reasoning and of question and ` +
          'answer; orange: while writing what it is looked at. Each is relative to the largest of its kind. What lies in ' +
          `question and answer is read from the map: a cell is ${(links?.pooled ?? []).join(' \u00d7 ')} tokens at most. ` +
          'Underlined: reflection phrases.'),
    csv,
  };
}

let lastPaint = null;
let unlockReader = () => {};
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape') unlockReader();
});

/** What is said of a token; listed(ends) -> the strongest of them as words that lead on. */
function saidOf(trace, token, { reads, readBy }, quoted, listed) {
  const shares = reads && [
    `After ${quoted(token - 1)}, while writing `,
    h('strong', {}, `answer token ${token} ${quoted(token)}`),
    `: share of attention on the reasoning ${show(reads.reasoning, 4)}, of which ${show(reads.outside, 4)} lies outside ` +
      `the ${counted(reads.near.length, 'token')} shown. Most: `,
    listed(reads.near),
    reads.far.length ? ['; in question and answer: ', listed(reads.far)] : '',
    '.',
  ];
  const uncaptured = token > trace.think_close ? ' The token that writes it was not captured.' : '';
  return [
    h('p', {}, shares ?? [h('strong', {}, `Token ${token} ${quoted(token)}.`), uncaptured]),
    h(
      'p',
      {},
      readBy.length
        ? ['Looked at while writing: ', listed(readBy), '.']
        : 'No answer token is known to look at it much.',
    ),
  ];
}

/** Lets one point at a token, or hold it with a click or the keys: describe(token), hold(token), rest(). */
function holdTokens(holder, paint, describe, hold, rest) {
  let held = null;
  const lock = (token) => {
    held = token;
    STATE.token = token === null ? '' : String(token);
    history.replaceState(null, '', address());
    (token === null ? rest : hold)(token);
  };
  const pointed = (act) => (event) => {
    const token = event.target.closest?.('.t')?.dataset.token;
    if (token) act(Number(token));
  };
  holder.onpointerover = pointed((token) => held ?? describe(token));
  holder.onpointerleave = () => held ?? rest();
  holder.onclick = pointed((token) => lock(held === token ? null : token));
  holder.onkeydown = (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    lock(held === null ? Number(event.target.querySelector('.t').dataset.token) : paint.nearest(held + step, step));
    event.preventDefault();
  };
  unlockReader = () => held === null || lock(null);
  rest();
  if (STATE.token !== '') requestAnimationFrame(() => lock(paint.nearest(Number(STATE.token) || 1)));
  return lock;
}

function tokenView(trace, links, texts, readout, holder, paint) {
  unlockReader = () => {};
  if (!links) {
    readout.textContent = 'No links are stored for this trace: dvc repro maps.';
    return null;
  }
  const go = ({ from }) => {
    lock(from);
    paint.focus(from);
  };
  const quoted = (place) => `\u201c${paint.label({ from: place, to: place + 1 })}\u201d`;
  const range = ({ from, to }) => (to > from + 1 ? `${from}\u2013${to - 1}` : from);
  const word = (end) => button(`\u201c${paint.label(end)}\u201d (${range(end)})`, () => go(end));
  const listed = (ends) => ends.slice(0, 3).map((end, at) => [at ? ', ' : '', word(end), ` ${show(end.weight, 4)}`]);
  const describe = (token) => {
    const found = { reads: token > trace.think_close ? links.reads(token) : null, readBy: links.readBy(token) };
    const { near = [], far = [] } = found.reads ?? {};
    paint.clear();
    for (const [ends, colours] of [
      [near, READS],
      [far, READS],
      [found.readBy, READ_BY],
    ]) {
      for (const end of ends) paint.tint(end, end.weight / ends[0].weight, colours);
    }
    paint.mark(token, 'here');
    readout.replaceChildren(...saidOf(trace, token, found, quoted, listed));
    return [near, far, found.readBy].filter((ends) => ends.length).map((ends) => ends[0].from);
  };
  /** The text scrolls to the token and to what it is linked with most. */
  const hold = (token) => {
    for (const place of [...describe(token), token]) paint.reveal(place);
    announce(readout.textContent);
  };
  const rest = () => {
    paint.clear();
    readout.textContent = 'Point at a token.';
  };
  const lock = holdTokens(holder, paint, describe, hold, rest);
  return () =>
    links.written.flatMap((answer_token) => {
      const { near, reasoning: reasoning_mass, outside } = links.reads(answer_token);
      return near.map(({ from, weight }) => ({
        ...{ answer_token, reasoning_token: from, text: texts[from], weight, reasoning_mass, outside },
      }));
    });
}

/** Sentences of a trace with their share of the answer's attention, and a token's over even attention, in one view. */
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

async function sentenceView(trace, at, readout, holder, paint) {
  unlockReader = () => {};
  if (!trace.sentences) {
    readout.textContent = 'No sentence masses are stored: dvc repro attention.';
    return null;
  }
  const all = await sentencesOf(trace, at);
  const most = [...all].sort((a, b) => b.ratio - a.ratio).slice(0, 10);
  for (const one of all) {
    const strength = Math.min(Math.abs(Math.log2(Math.max(one.ratio, 1e-9))) / 3, 1);
    paint.mark(one.from, 'starts');
    paint.tint(one, strength, one.ratio > 1 ? READS : READ_BY, most.includes(one));
  }
  const total = all.reduce((sum, one) => sum + one.share, 0);
  const says = ({ number, from, to, share, ratio, reflects }) =>
    `Sentence ${number + 1} of ${all.length}, tokens ${from}\u2013${to - 1}: a token of it gets ${show(ratio, 2)} times its ` +
    `even share, all of it ${show(share, 4)} of the answer\u2019s attention, mean over its tokens` +
    `${reflects ? '; holds a reflection phrase' : ''}.`;
  const line = h(
    'p',
    {},
    `The ${counted(all.length, 'sentence')} get ${show(100 * total, 0)}% of the answer\u2019s attention. Point at one to see its share.`,
  );
  const item = (one) => [
    button(`\u201c${paint.label(one, 90)}\u201d`, () => pick(one)),
    show(one.ratio, 2),
    show(one.share, 4),
  ];
  const columns = [['most for a token of it'], ['times its even share', 'number'], ['share', 'number']];
  readout.replaceChildren(line, table(columns, most.map(item)));
  const pick = (one) => {
    line.textContent = says(one);
    paint.reveal(one.from);
    announce(line.textContent);
  };
  const of = (event) => {
    const token = Number(event.target.dataset?.token);
    return all.find((one) => token >= one.from && token < one.to);
  };
  const point = (event) => {
    if (of(event)) line.textContent = says(of(event));
  };
  Object.assign(holder, { onpointerover: point, onclick: point, onpointerleave: null, onkeydown: null });
  return () =>
    all.map(({ number, from, to, share, ratio, reflects }) => ({
      ...{ sentence: number, start: from, end: to, reflection: reflects, mass: share, times_even: ratio },
    }));
}
