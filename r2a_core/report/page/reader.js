// The trace reader: the text of a trace and its strip; a token shows what it looks at and what looks at it, a sentence
// how much of the answer's attention it gets, a pair of lines how much one looks at the other.

function viewAt(trace) {
  const wanted = STATE.view || STATE.head;
  const at = trace.views.findIndex((view) => view.name === wanted);
  return Math.max(at, 0);
}

const viewLabel = (view) =>
  ({ rfh_mean: 'top Reasoning-Focus Heads, mean', head_mean: 'all heads, mean' })[view.kind] ?? `head ${view.name}`;

const READS = [BLUE, SKY];
const READ_BY = [VERMILION, ORANGE];
const MODES = {
  tokens: [tokenView, ({ trace, links }) => tokenCaption(trace, links)],
  sentences: [sentenceView, () => SENTENCE_CAPTION],
  lines: [lineView, ({ trace }) => lineCaption(trace)],
};

const tokenIn = ({ n_tokens: count, think_open: open, think_close: close }, text) =>
  /^[1-9]\d*$/.test(text) && Number(text) < count - 1 && Number(text) !== open && Number(text) !== close;

declare('view', '', (name) => (chosenTrace()?.views ?? []).some((view) => view.name === name));
declare(
  'mode',
  'tokens',
  oneOf(() => Object.keys(MODES)),
);
declare('token', '', (list) => chosenTrace() && list.split(',').every((one) => tokenIn(chosenTrace(), one)));
declare('line', '', (pair) => within(pair, Array(2).fill(chosenTrace()?.lines?.start.length ?? 0)));

/** What the reader shows; while it is the same, nothing is drawn again: to lay out 10,000 tokens takes a while. */
function readerSign() {
  const trace = chosenTrace();
  const { model, dataset, item, mode, token, line } = STATE;
  return JSON.stringify([model, dataset, item, mode, token, line, trace?.item_id, trace && viewAt(trace), isNight()]);
}

function readerControls(trace, at) {
  const views = trace.views.map((each) => [each.name, viewLabel(each)]);
  return [
    ...tracePicker(),
    picker('heads', views, 'view', trace.views[at].name),
    picker('show', Object.keys(MODES), 'mode'),
  ];
}

function readerCaption(trace, at, told) {
  const lacking =
    STATE.item && STATE.item !== trace.item_id
      ? `No attention is here of ${visible(STATE.item)}; this is another. `
      : '';
  const place = `one of ${counted(tracesHere().length, 'trace')}, ${STATE.model} on ${STATE.dataset}`;
  return `${lacking}${visible(trace.item_id)}, ${place}; ${viewLabel(trace.views[at])}. ${told}`;
}

/** Says where the answer looks in the chosen view, mean over its tokens. */
function readerAnswer(trace, at, links) {
  const blocks = links?.blocks.filter((block) => block.exact) ?? [];
  const mean = ({ written, reads }) => written.reduce((sum, token) => sum + reads(token).mass, 0) / written.length;
  const shares = blocks.map((block) => `${fixed(100 * mean(block), 0)}% on the ${PART_NAMES[block.part]}`);
  return (
    shares.length > 0 &&
    `Of the attention while writing this answer (${viewLabel(trace.views[at])}): ${shares.join(', ')}.`
  );
}

async function drawReader(body, width) {
  const trace = chosenTrace();
  if (!trace)
    return { missing: leftOut(`No traces of ${STATE.model} on ${STATE.dataset} to read yet: dvc repro maps.`) };
  const at = viewAt(trace);
  const text = await textOf(trace);
  const links = await linksOf(trace, at);
  const paint = painter(trace, text, width);
  lastPaint?.clear();
  lastPaint = paint;
  const readout = h('div', { class: 'readout', id: 'reader-readout', 'aria-live': 'off' });
  const { texts, top, holder } = text;
  top.replaceChildren();
  append(top, [await mapThumbs(trace, at), traceAxis(trace, at, width, paint.strip), readout]);
  const kept = holder.isConnected; // another view of the same trace: its text stays where it is
  if (!kept) body.append(top, holder, itemLinks([trace.item_id]));
  Object.assign(holder, { onpointerover: null, onpointerleave: null, onclick: null, onkeydown: null });
  const [draw, caption] = MODES[STATE.mode];
  unlockReader = () => {};
  const shown = { trace, at, links, texts, readout, holder, paint, width };
  const csv = await draw(shown);
  return {
    kept,
    controls: readerControls(trace, at),
    answer: readerAnswer(trace, at, links),
    caption: readerCaption(trace, at, caption(shown)),
    csv,
  };
}

let lastPaint = null;
let unlockReader = () => {};
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape') unlockReader();
});
