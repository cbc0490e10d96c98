// The trace reader: tokens as text; an answer token shows which reasoning tokens the chosen heads look at.

function viewAt(trace) {
  const wanted = STATE.view || (headOf(STATE.head) ? STATE.head : '');
  const at = trace.views.findIndex((view) => view.name === wanted);
  return at >= 0 ? at : 0;
}

const viewLabel = (view) =>
  ({ rfh_mean: 'top Reasoning-Focus Heads, mean', head_mean: 'all heads, mean' })[view.kind] ?? `head ${view.name}`;

function tint(element, share) {
  element.style.backgroundColor =
    share > 0 ? `rgba(${isNight() ? '86,180,233' : '0,114,178'},${(0.08 + 0.6 * share).toFixed(3)})` : '';
}

/** Links of a trace in one view, unpacked: of(row) -> {tokens, weights, reasoning, outside}. */
async function linksOf(trace, at) {
  const links = trace.links?.[at];
  if (!links) return null;
  const [tokens, weights, reasoning, outside] = await Promise.all(
    [links.tokens, links.weights, links.reasoning, links.outside].map(numbers),
  );
  const [rows, width] = tokens.shape;
  return {
    first: links.first_row,
    rows,
    width,
    of: (row) => {
      const line = row - links.first_row;
      if (line < 0 || line >= rows) return null;
      const found = [];
      for (let rank = 0; rank < width; rank++) {
        const token = tokens.values[line * width + rank];
        if (token !== CODES.no_token) found.push({ token, weight: weights.values[line * width + rank] / CODES.whole });
      }
      return { found, reasoning: reasoning.values[line] / CODES.whole, outside: outside.values[line] / CODES.whole };
    },
  };
}

function tokenSpans(texts, from, to, kind) {
  return Array.from({ length: to - from }, (_, at) =>
    h(
      'span',
      { class: 't', 'data-token': from + at, 'data-kind': kind },
      visible(texts[from + at]).replaceAll('\n', '\u21b5\n'),
    ),
  );
}

const readerFigure = () =>
  figure({ id: 'reader', title: 'Trace reader', keys: ['head', 'item', 'view', 'mode', 'token'] }, drawReader);

async function drawReader(body) {
  const trace = chosenTrace();
  if (!trace) return { missing: `No traces of ${STATE.model} on ${STATE.dataset} to read yet: dvc repro maps.` };
  const at = viewAt(trace);
  const texts = await packedJson(trace.tokens);
  const links = await linksOf(trace, at);
  const { think_open: open, think_close: close, n_tokens: count } = trace;
  const part = (name, from, to) =>
    h(
      'section',
      { class: `part ${name}` },
      h('h4', {}, name, h('span', { class: 'muted' }, `  ${counted(to - from, 'token')}`)),
      h(
        'div',
        {
          class: 'text tokens',
          dir: 'auto',
          ...(name === 'answer'
            ? {
                tabindex: 0,
                'data-key': 'answer',
                'aria-label': 'Answer tokens: arrow keys choose one, Escape releases it',
              }
            : {}),
        },
        tokenSpans(texts, from, to, name),
      ),
    );
  const readout = h('p', { class: 'readout', id: 'reader-readout', 'aria-live': 'off' });
  const parts = [part('question', 1, open), part('reasoning', open + 1, close), part('answer', close + 1, count - 1)];
  body.append(readout, ...parts, itemLinks([trace.item_id]));
  const span = (token) => body.spans[token];
  body.spans = {};
  for (const one of body.querySelectorAll('.t')) body.spans[one.dataset.token] = one;
  for (const token of trace.reflection) span(token)?.classList.add('reflects');
  const csv =
    STATE.mode === 'sentences'
      ? await sentenceView(trace, at, readout, parts[1], span)
      : tokenView(trace, links, texts, readout, parts, span);
  const view = trace.views[at];
  return {
    controls: [
      ...tracePicker(),
      picker(
        'heads',
        trace.views.map((each) => [each.name, viewLabel(each)]),
        'view',
        view.name,
      ),
      picker('show', ['tokens', 'sentences'], 'mode'),
    ],
    caption:
      [
        STATE.item && STATE.item !== trace.item_id
          ? `No attention is stored of ${visible(STATE.item)}; this is another. `
          : '',
      ] +
      `${visible(trace.item_id)}, ${STATE.model} on ${STATE.dataset}; ${viewLabel(view)}. ` +
      (STATE.mode === 'sentences'
        ? 'Each sentence of the reasoning is coloured by the share of attention it gets from the answer, mean over answer ' +
          'tokens, relative to the largest.'
        : 'Point at an answer token, or choose it with a click or the arrow keys (Esc releases it): the ' +
          `${links?.width ?? 0} reasoning tokens that the model looks at most while writing it (from the token before) ` +
          'are coloured, relative to the largest; weights to 4 decimals. Underlined: reflection phrases.'),
    csv,
  };
}

function tokenView(trace, links, texts, readout, parts, span) {
  const answer = parts[2].querySelector('.text');
  const first = trace.think_close + 1;
  const last = trace.n_tokens - 2;
  let tinted = [];
  let locked = STATE.token === '' ? null : Number(STATE.token);
  const clear = () => {
    tinted.forEach((one) => tint(one, 0));
    tinted = [];
    parts[2].querySelectorAll('.here').forEach((one) => one.classList.remove('here'));
  };
  const describe = (token) => {
    clear();
    const link = links?.of(token - 1); // the token before writes this one
    if (!link) {
      readout.textContent = links
        ? 'The token that writes this one was not captured.'
        : 'No links are stored for this trace: dvc repro maps.';
      return;
    }
    const largest = link.found[0]?.weight || 1;
    for (const { token: to, weight } of link.found) {
      const one = span(to);
      if (one) {
        tint(one, weight / largest);
        tinted.push(one);
      }
    }
    span(token).classList.add('here');
    const strongest = link.found
      .slice(0, 3)
      .map((one) => `\u201c${visible(texts[one.token]).trim() || '\u2423'}\u201d (${one.token}) ${show(one.weight, 4)}`)
      .join(', ');
    readout.replaceChildren(
      `After \u201c${visible(texts[token - 1]).trim() || '\u2423'}\u201d, while writing `,
      h('strong', {}, `answer token ${token} \u201c${visible(texts[token]).trim() || '\u2423'}\u201d`),
      `: share of attention on the reasoning ${show(link.reasoning, 4)}, of which ${show(link.outside, 4)} lies outside the ` +
        `${counted(link.found.length, 'token')} shown. Most: ${strongest}.`,
      locked === token ? h('span', { class: 'muted' }, ' Held; Esc releases it.') : '',
    );
  };
  const rest = () => {
    if (locked === null) {
      clear();
      readout.textContent = links
        ? 'Point at a token of the answer.'
        : 'No links are stored for this trace: dvc repro maps.';
    } else describe(locked);
  };
  const lock = (token) => {
    locked = token;
    STATE.token = token === null ? '' : String(token);
    history.replaceState(null, '', address());
    rest();
    if (token !== null) {
      announce(readout.textContent);
      span(token).scrollIntoView({ block: 'nearest' });
    }
  };
  const tokenOf = (event) => {
    const one = event.target.closest?.('[data-kind="answer"]');
    return one ? Number(one.dataset.token) : null;
  };
  answer.addEventListener('pointerover', (event) => {
    const token = tokenOf(event);
    if (token !== null && locked === null) describe(token);
  });
  answer.addEventListener('pointerleave', () => {
    if (locked === null) rest();
  });
  answer.addEventListener('click', (event) => {
    const token = tokenOf(event);
    if (token !== null) lock(locked === token ? null : token);
  });
  answer.addEventListener('keydown', (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (!step) return;
    lock(Math.min(Math.max(locked === null ? first : locked + step, first), last));
    event.preventDefault();
  });
  unlockReader = () => {
    if (locked !== null) lock(null);
  };
  rest();
  return (
    links &&
    (() => [
      ['answer_token', 'reasoning_token', 'text', 'weight', 'reasoning_mass', 'outside'],
      ...Array.from({ length: links.rows }, (_, at) => links.first + at).flatMap((row) => {
        const link = links.of(row);
        return link.found.map((one) => [
          row + 1,
          one.token,
          texts[one.token],
          one.weight,
          link.reasoning,
          link.outside,
        ]);
      }),
    ])
  );
}

let unlockReader = () => {};
document.addEventListener('keydown', (event) => {
  if (event.key === 'Escape') unlockReader();
});

async function sentenceView(trace, at, readout, reasoning, span) {
  unlockReader = () => {};
  const sentences = trace.sentences;
  if (!sentences) {
    readout.textContent = 'No sentence masses are stored: dvc repro attention.';
    return null;
  }
  const {
    shape: [, count],
    values,
  } = await numbers(sentences.masses);
  const mass = (number) => values[at * count + number];
  const largest = Math.max(...Array.from({ length: count }, (_, number) => mass(number) || 0)) || 1;
  const total = Array.from({ length: count }, (_, number) => mass(number) || 0).reduce((sum, one) => sum + one, 0);
  const idle = `The ${counted(count, 'sentence')} get ${show(100 * total, 0)}% of the answer\u2019s attention. Point at one to see its share.`;
  const of = {};
  for (let number = 0; number < count; number++) {
    span(sentences.start[number])?.classList.add('starts');
    for (let token = sentences.start[number]; token < sentences.end[number]; token++) {
      of[token] = number;
      if (span(token)) tint(span(token), (mass(number) || 0) / largest);
    }
  }
  readout.textContent = idle;
  const say = (event) => {
    const number = of[event.target.dataset?.token];
    readout.textContent =
      number === undefined
        ? idle
        : `Sentence ${number + 1} of ${count}, tokens ${sentences.start[number]}\u2013${sentences.end[number] - 1}: ` +
          `share ${show(mass(number), 4)} of the answer\u2019s attention, mean over its tokens` +
          `${sentences.reflection[number] ? '; holds a reflection phrase' : ''}.`;
  };
  reasoning.addEventListener('pointerover', say);
  reasoning.addEventListener('click', say);
  return () => [
    ['sentence', 'start', 'end', 'reflection', 'mass'],
    ...sentences.start.map((start, number) => [
      number,
      start,
      sentences.end[number],
      sentences.reflection[number],
      mass(number),
    ]),
  ];
}
