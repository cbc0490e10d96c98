// The trace reader: the text of a trace and its strip; a token shows what it looks at and what looks at it, a sentence
// how much of the answer's attention it gets.

function viewAt(trace) {
  const wanted = STATE.view || (headOf(STATE.head) ? STATE.head : '');
  return Math.max(
    trace.views.findIndex((view) => view.name === wanted),
    0,
  );
}

const viewLabel = (view) =>
  ({ rfh_mean: 'top Reasoning-Focus Heads, mean', head_mean: 'all heads, mean' })[view.kind] ?? `head ${view.name}`;

const isTag = ({ think_open, think_close }, token) => token === think_open || token === think_close;

/**
 * What one view of a trace links. Ends are {from, to, weight}, tokens from..to-1, the strongest first.
 * reads(token): near, in the reasoning, is exact; far, in question and answer, are cells of the map; null where the
 * token that writes it was not captured. readBy(token): answer tokens while writing which it is looked at.
 */
async function linksOf(trace, at) {
  const links = trace.links?.[at];
  if (!links) return null;
  const named = { tokens: links.tokens, weights: links.weights, reasoning: links.reasoning, outside: links.outside };
  const { tokens, weights, reasoning, outside } = await allNumbers(named);
  const [lines, width] = tokens.shape;
  const map = trace.maps[at];
  const levels = (await numbers(map.cells)).values;
  const isNear = (token) => token > trace.think_open && token < trace.think_close;
  const isShown = (token) => token > 0 && token < trace.n_tokens - 1 && !isTag(trace, token);
  const strongest = (found) =>
    found
      .filter((end) => end.weight && isShown(end.from))
      .sort((a, b) => b.weight - a.weight)
      .slice(0, width);
  const cells = (edges, shift, weight) =>
    strongest(edges.slice(1).map((to, at) => ({ from: edges[at] + shift, to: to + shift, weight: weight(at) })));
  const cell = (row, column) => weightOf(levels[row * (map.columns.length - 1) + column], trace.floor);
  const within = (edges, token) => edges.findIndex((from, at) => token >= from && token < edges[at + 1]);
  const near = (place, from) => ({ from, to: from + 1, weight: weights.values[place] / CODES.whole });
  const places = (line) => Array.from({ length: width }, (_, rank) => line * width + rank);
  const reads = (token) => {
    const line = token - 1 - links.first_row; // the token before writes this one
    if (line < 0 || line >= lines) return null;
    const row = within(map.rows, token - 1);
    const far = row < 0 ? [] : cells(map.columns, 0, (column) => (isNear(map.columns[column]) ? 0 : cell(row, column)));
    const kept = places(line).filter((place) => tokens.values[place] !== CODES.no_token);
    const [inside, left] = [reasoning, outside].map((one) => one.values[line] / CODES.whole);
    const ends = kept.map((place) => near(place, tokens.values[place]));
    return { near: ends, far, reasoning: inside, outside: left };
  };
  const readBy = (token) => {
    const column = within(map.columns, token);
    if (!isNear(token)) return column < 0 ? [] : cells(map.rows, 1, (row) => cell(row, column));
    const found = [];
    tokens.values.forEach((one, place) => {
      if (one === token) found.push(near(place, links.first_row + Math.floor(place / width) + 1));
    });
    return strongest(found);
  };
  const written = Array.from({ length: lines }, (_, line) => links.first_row + line + 1);
  return { written, width, pooled: cellSize(map), reads, readBy };
}

const shownText = (texts, { from, to }) => {
  const text = visible(texts.slice(from, to).join('')).trim() || '\u2423';
  return text.length > 24 ? `${text.slice(0, 23)}\u2026` : text;
};

/** The text of a trace as elements, made once: 10,000 tokens take a while. */
const textOf = (trace) =>
  unpackOnce(trace, async () => {
    const texts = await packedJson(trace.tokens);
    const spans = [];
    const part = (name, from, to) => {
      const own = texts.slice(from, to).map((text, at) => {
        const shown = visible(text).replaceAll('\n', '\u21b5\n');
        spans[from + at] = h('span', { class: 't', 'data-token': from + at, 'data-kind': name }, shown);
        return spans[from + at];
      });
      const keys = `${name} tokens: arrow keys choose one, Escape releases it`;
      return h(
        'section',
        { class: `part ${name}` },
        h('h4', {}, name, h('span', { class: 'muted' }, `  ${counted(to - from, 'token')}`)),
        h('div', { class: 'text tokens', dir: 'auto', tabindex: 0, 'data-key': name, 'aria-label': keys }, own),
      );
    };
    const { think_open: open, think_close: close, n_tokens: count } = trace;
    const parts = [part('question', 1, open), part('reasoning', open + 1, close), part('answer', close + 1, count - 1)];
    for (const token of trace.reflection) spans[token]?.classList.add('reflects');
    return { texts, spans, parts };
  });

/** What is painted over the text and its strip, until it is cleared. */
function painter(trace, { texts, spans, parts }, width) {
  const x = linear(1, trace.n_tokens - 1, 0, width);
  const marks = s('g');
  const here = s('rect', { y: 1, height: 28, class: 'window' });
  const borders = [1, trace.think_open, trace.think_close, trace.n_tokens - 1];
  const box = (token) => spans[token].closest('.text');
  const reveal = (token) => {
    const [holder, one] = [box(token), spans[token]].map((each) => each.getBoundingClientRect());
    box(token).scrollTop += one.top - holder.top - holder.height / 2;
  };
  const strip = picture(
    width,
    30,
    'Strip of the whole trace: question, reasoning and answer, and where in them the coloured tokens lie',
    ['question', 'reasoning', 'answer'].map((name, at) =>
      s(
        'g',
        { class: `strip ${name}` },
        s('rect', { x: x(borders[at]), y: 4, width: Math.max(x(borders[at + 1]) - x(borders[at]) - 1, 1), height: 22 }),
      ),
    ),
    trace.marks.map((token) => s('path', { d: `M${x(token)} 26v4`, class: 'reflecting' })),
    here,
    marks,
  );
  strip.addEventListener('click', (event) => {
    const share = (event.clientX - strip.getBoundingClientRect().left) / strip.getBoundingClientRect().width;
    reveal(Math.min(Math.max(Math.round(1 + share * (trace.n_tokens - 2)), 1), trace.n_tokens - 2));
  });
  const scroller = parts[1].querySelector('.text');
  const follow = () => {
    const tall = scroller.scrollHeight || 1;
    const length = x(trace.think_close) - x(trace.think_open + 1);
    here.setAttribute('x', x(trace.think_open + 1) + (length * scroller.scrollTop) / tall);
    here.setAttribute('width', Math.max((length * scroller.clientHeight) / tall, 2));
  };
  scroller.onscroll = follow;
  requestAnimationFrame(follow);
  let painted = [];
  return {
    ...{ strip, reveal, focus: (token) => box(token).focus({ preventScroll: true }) },
    clear: () => {
      for (const one of painted) {
        one.style.backgroundColor = '';
        one.classList.remove('here', 'starts');
      }
      painted = [];
      marks.replaceChildren();
    },
    mark: (token, name) => {
      spans[token].classList.add(name);
      painted.push(spans[token]);
    },
    /** Colours tokens from..to-1 by a share 0..1, and the strip where `tall`. */
    tint: ({ from, to }, share, [day, night], tall = true) => {
      const [r, g, b] = rgb(isNight() ? night : day);
      for (const one of spans.slice(from, to)) {
        one.style.backgroundColor = `rgba(${r},${g},${b},${(0.08 + 0.6 * share).toFixed(3)})`;
        painted.push(one);
      }
      const bar = { x: x(from), y: 26 - 22 * share, width: Math.max(x(to) - x(from), 1.5), height: 22 * share };
      if (tall) marks.append(s('rect', { ...bar, fill: isNight() ? night : day }));
    },
    label: (end) => shownText(texts, end),
  };
}

const READS = [BLUE, SKY];
const READ_BY = [VERMILION, ORANGE];

/** The maps of all views that the trace has, as buttons that choose one. */
const mapThumbs = (trace, chosen) =>
  h(
    'div',
    { class: 'thumbs' },
    trace.views.map((view, at) => {
      const { rows, columns, cells } = trace.maps[at];
      const button = h(
        'button',
        {
          ...{ type: 'button', 'data-key': `thumb${at}`, 'aria-pressed': String(at === chosen) },
          onclick: () => choose({ view: view.name }),
        },
        h('span', {}, viewLabel(view)),
      );
      if (rows.length)
        numbers(cells).then(({ values }) =>
          button.prepend(mapCanvas({ rows, columns }, values, [columns[0], columns.at(-1)], '')),
        );
      return button;
    }),
  );

const readerFigure = () =>
  figure({ id: 'reader', title: 'Trace reader', keys: ['head', 'item', 'view', 'mode'] }, drawReader);

async function drawReader(body, width) {
  const trace = chosenTrace();
  if (!trace) return { missing: `No traces of ${STATE.model} on ${STATE.dataset} to read yet: dvc repro maps.` };
  const at = viewAt(trace);
  const text = await textOf(trace);
  const links = await linksOf(trace, at);
  const paint = painter(trace, text, width);
  lastPaint?.clear();
  lastPaint = paint;
  const readout = h('div', { class: 'readout', id: 'reader-readout', 'aria-live': 'off' });
  const holder = h('div', {}, text.parts);
  body.append(mapThumbs(trace, at), paint.strip, readout, holder, itemLinks([trace.item_id]));
  const bySentence = STATE.mode === 'sentences';
  const csv = bySentence
    ? await sentenceView(trace, at, readout, holder, paint)
    : tokenView(trace, links, text.texts, readout, holder, paint);
  const run = traceRun();
  return {
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
      `${visible(trace.item_id)}, one of ${counted(run.items.length, 'trace')}, ${STATE.model} on ${STATE.dataset}; ` +
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

function tokenView(trace, links, texts, readout, holder, paint) {
  const last = trace.n_tokens - 2;
  let locked = STATE.token === '' ? null : Math.min(Math.max(Number(STATE.token) || 1, 1), last);
  const word = (end) => [
    h(
      'button',
      {
        type: 'button',
        onclick: () => {
          lock(end.from);
          paint.focus(end.from);
        },
      },
      `\u201c${paint.label(end)}\u201d (${end.from}${end.to > end.from + 1 ? `\u2013${end.to - 1}` : ''})`,
    ),
    ` ${show(end.weight, 4)}`,
  ];
  const listed = (found) => found.slice(0, 3).map((end, at) => [at ? ', ' : '', word(end)]);
  const tintAll = (found, colours) =>
    found.forEach((end) => paint.tint(end, end.weight / (found[0].weight || 1), colours));
  const said = (token, reads, readBy) => {
    const quoted = (place) => `\u201c${paint.label({ from: place, to: place + 1 })}\u201d`;
    const lines = [];
    if (reads) {
      const { near, far, reasoning, outside } = reads;
      lines.push([
        `After ${quoted(token - 1)}, while writing `,
        h('strong', {}, `answer token ${token} ${quoted(token)}`),
        `: share of attention on the reasoning ${show(reasoning, 4)}, of which ${show(outside, 4)} lies outside the ` +
          `${counted(near.length, 'token')} shown. Most: `,
        listed(near),
        far.length ? ['; in question and answer: ', listed(far)] : '',
        '.',
      ]);
    } else if (token > trace.think_close) lines.push('The token that writes this one was not captured.');
    else lines.push(h('strong', {}, `Token ${token} ${quoted(token)}.`));
    lines.push(
      readBy.length
        ? ['Looked at while writing: ', listed(readBy), '.']
        : 'No answer token is known to look at it much.',
    );
    return lines.map((line) => h('p', {}, line));
  };
  const describe = (token) => {
    paint.clear();
    if (!links) return;
    const [reads, readBy] = [token > trace.think_close ? links.reads(token) : null, links.readBy(token)];
    tintAll(reads?.near ?? [], READS);
    tintAll(reads?.far ?? [], READS);
    tintAll(readBy, READ_BY);
    paint.mark(token, 'here');
    readout.replaceChildren(...said(token, reads, readBy));
    return [reads?.near[0], readBy[0]].filter(Boolean);
  };
  const rest = () => {
    paint.clear();
    readout.textContent = links ? 'Point at a token.' : 'No links are stored for this trace: dvc repro maps.';
  };
  /** Holds a token; the text scrolls to it and to what it is linked with most. */
  const lock = (token) => {
    locked = token;
    STATE.token = token === null ? '' : String(token);
    history.replaceState(null, '', address());
    if (token === null) return rest();
    for (const end of describe(token) ?? []) paint.reveal(end.from);
    paint.reveal(token);
    announce(readout.textContent);
  };
  const tokenOf = (event) => Number(event.target.closest?.('.t')?.dataset.token ?? NaN);
  holder.addEventListener('pointerover', (event) => {
    if (locked === null && tokenOf(event)) describe(tokenOf(event));
  });
  holder.addEventListener('pointerleave', () => {
    if (locked === null) rest();
  });
  holder.addEventListener('click', (event) => {
    if (tokenOf(event)) lock(locked === tokenOf(event) ? null : tokenOf(event));
  });
  holder.addEventListener('keydown', (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    const first = Number(event.target.querySelector('.t')?.dataset.token ?? 1);
    lock(locked === null ? first : Math.min(Math.max(locked + step, 1), last));
    event.preventDefault();
  });
  unlockReader = () => {
    if (locked !== null) lock(null);
  };
  rest();
  if (locked !== null) requestAnimationFrame(() => lock(locked));
  if (!links) return null;
  return () => [
    ['answer_token', 'reasoning_token', 'text', 'weight', 'reasoning_mass', 'outside'],
    ...links.written.flatMap((token) => {
      const { near, reasoning, outside } = links.reads(token);
      return near.map(({ from, weight }) => [token, from, texts[from], weight, reasoning, outside]);
    }),
  ];
}

async function sentenceView(trace, at, readout, holder, paint) {
  unlockReader = () => {};
  if (!trace.sentences) {
    readout.textContent = 'No sentence masses are stored: dvc repro attention.';
    return null;
  }
  const { start, end, reflection, masses } = trace.sentences;
  const values = (await numbers(masses)).values.slice(at * start.length, (at + 1) * start.length);
  const answer = Array.from(
    { length: trace.n_tokens - trace.think_close - 2 },
    (_, row) => trace.think_close + 1 + row,
  );
  const even = answer.reduce((sum, token) => sum + 1 / (token + 1), 0) / answer.length;
  const all = start.map((from, number) => {
    const share = values[number] || 0;
    return { number, from, to: end[number], share, ratio: share / (end[number] - from) / even };
  });
  const most = [...all].sort((a, b) => b.ratio - a.ratio).slice(0, 10);
  for (const one of all) {
    const strength = Math.min(Math.abs(Math.log2(Math.max(one.ratio, 1e-9))) / 3, 1);
    paint.mark(one.from, 'starts');
    paint.tint(one, strength, one.ratio > 1 ? READS : READ_BY, most.includes(one));
  }
  const total = all.reduce((sum, one) => sum + one.share, 0);
  const says = ({ number, from, to, share, ratio }) =>
    `Sentence ${number + 1} of ${all.length}, tokens ${from}\u2013${to - 1}: a token of it gets ${show(ratio, 2)} times its ` +
    `even share, all of it ${show(share, 4)} of the answer\u2019s attention, mean over its tokens` +
    `${reflection[number] ? '; holds a reflection phrase' : ''}.`;
  const line = h(
    'p',
    {},
    `The ${counted(all.length, 'sentence')} get ${show(100 * total, 0)}% of the answer\u2019s attention. Point at one to see its share.`,
  );
  const item = (one) => [
    h('button', { type: 'button', onclick: () => pick(one) }, `\u201c${paint.label(one)}\u201d`),
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
  for (const name of ['pointerover', 'click']) holder.addEventListener(name, point);
  return () => [
    ['sentence', 'start', 'end', 'reflection', 'mass', 'times_even'],
    ...all.map((one) => [one.number, one.from, one.to, reflection[one.number], one.share, one.ratio]),
  ];
}
