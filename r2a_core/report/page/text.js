// The text of a trace and the strip beside it: what is painted on both, and how one gets from the strip to the text.

const LONG = 1500; // tokens: more than fill their box, so that it has its size before they are laid out

/** The text of a trace as elements, made once: 10,000 tokens take a while. */
const textOf = (trace) =>
  unpackOnce(trace, async () => {
    const texts = await packedJson(trace.tokens);
    const spans = [];
    const part = (name, from, to) => {
      const own = texts.slice(from, to).map((text, at) => {
        const shown = visible(text).replaceAll('\n', '\u21b5\n');
        return (spans[from + at] = h('span', { class: 't', 'data-token': from + at }, shown));
      });
      const keys = `${name} tokens: arrow keys choose one, Escape releases it`;
      return h(
        'section',
        { class: `part ${name}` },
        h('h4', {}, name, h('span', { class: 'muted' }, `  ${counted(to - from, 'token')}`)),
        h(
          'div',
          {
            class: to - from > LONG ? 'text tokens long' : 'text tokens',
            dir: 'auto',
            tabindex: 0,
            'data-key': name,
            'aria-label': keys,
          },
          own,
        ),
      );
    };
    const { think_open: open, think_close: close, n_tokens: count } = trace;
    const parts = [part('question', 1, open), part('reasoning', open + 1, close), part('answer', close + 1, count - 1)];
    for (const token of trace.reflection) spans[token]?.classList.add('reflects');
    return { texts, spans, parts, top: h('div'), holder: h('div', {}, parts) };
  });

/** Where a token lies on the strip of its trace. */
const alongTrace = (trace, width) => linear(1, trace.n_tokens - 1, 0, width);

/** A strip of the whole trace over which marks are drawn, and where the reasoning that one sees lies; go(token). */
function stripOf(trace, scroller, width, go) {
  const x = alongTrace(trace, width);
  const [left, right] = [x(trace.think_open + 1), x(trace.think_close)];
  const [marks, here] = [s('g'), s('rect', { y: 1, height: 28, class: 'window' })];
  const borders = [1, trace.think_open, trace.think_close, trace.n_tokens - 1].map(x);
  const part = (name, at) =>
    s('rect', { x: borders[at], y: 4, width: Math.max(borders[at + 1] - borders[at] - 1, 1), height: 22, class: name });
  const strip = picture(
    width,
    30,
    'Strip of the whole trace: question, reasoning and answer, and where in them the coloured tokens lie',
    ['strip', 'strip middle', 'strip'].map(part),
    here,
    marks,
  );
  strip.addEventListener('click', (event) => {
    const box = strip.getBoundingClientRect();
    go(Math.round(1 + ((event.clientX - box.left) / box.width) * (trace.n_tokens - 2)));
  });
  const follow = () => {
    const [top, seen] = [scroller.scrollTop, scroller.clientHeight].map((one) => one / (scroller.scrollHeight || 1));
    here.setAttribute('x', left + (right - left) * top);
    here.setAttribute('width', Math.max((right - left) * seen, 2));
  };
  for (const name of ['scroll', 'contentvisibilityautostatechange']) scroller[`on${name}`] = follow;
  requestAnimationFrame(follow);
  const bar = ({ from, to }, share, fill) =>
    marks.append(
      s('rect', { x: x(from), y: 26 - 22 * share, width: Math.max(x(to) - x(from), 1.5), height: 22 * share, fill }),
    );
  return { strip, bar, clear: () => marks.replaceChildren() };
}

/** What is painted over the text and its strip, until it is cleared. */
function painter(trace, { texts, spans, parts }, width) {
  const box = (token) => spans[token].closest('.text');
  /** A token of the text; a tag between its parts has none, there it is the next one. */
  const nearest = (token, step = 1) => {
    const at = Math.min(Math.max(token, 1), trace.n_tokens - 2);
    return [at, at + step, at - step].find((one) => spans[one]);
  };
  const reveal = (token) => {
    const [holder, one] = [box(token), spans[token]].map((each) => each.getBoundingClientRect());
    box(token).scrollTop += one.top - holder.top - holder.height / 2;
  };
  const { strip, bar, clear } = stripOf(trace, parts[1].querySelector('.text'), width, (token) =>
    reveal(nearest(token)),
  );
  const [marked, tinted] = [new Set(), new Set()];
  return {
    ...{ strip, nearest, reveal, focus: (token) => box(token).focus({ preventScroll: true }) },
    quoted: ({ from, to }, most = 24) => `\u201c${shortText(texts.slice(from, to).join(''), most)}\u201d`,
    mark: (token, name) => {
      spans[token].classList.add(name);
      marked.add(spans[token]);
    },
    /** Colours tokens from..to-1 by a share 0..1, by day or by night, and the strip where `tall`. */
    tint: (end, share, [day, night], tall = true) => {
      const colour = isNight() ? night : day;
      const ground = `rgba(${rgb(colour)},${(0.08 + 0.6 * share).toFixed(3)})`;
      for (const one of spans.slice(end.from, end.to)) {
        one.style.backgroundColor = ground;
        tinted.add(one);
      }
      if (tall) bar(end, share, colour);
    },
    clear: () => {
      for (const one of marked) one.classList.remove('here', 'starts', 'pinned');
      for (const one of tinted) one.removeAttribute('style');
      for (const painted of [marked, tinted]) painted.clear();
      clear();
    },
  };
}
