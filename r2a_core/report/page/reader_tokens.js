// The tokens of a trace in the reader: what one reads and what reads it.

/** What one reads of a part of the text; listed(ends) -> the strongest of them as words that lead on. */
function partSaid({ part, ends, mass, outside }, listed) {
  const about = part === 'before' ? 'about ' : '';
  return h(
    'p',
    {},
    `Share of attention on the ${PART_NAMES[part]}: ${about}${show(mass, 4)}`,
    ends.length > 0 && [', most on ', listed(ends)],
    `; ${about}${show(outside, 4)} lies outside the ${counted(ends.length, 'token')} shown.`,
  );
}

/** Why it is not known what the model looked at while it wrote a token. */
function unread(trace, token) {
  const isText = token > trace.think_open + 1;
  const views = readingViews(trace);
  if (!isText) return '';
  return token < trace.think_close && views.length
    ? ` Of reasoning tokens the page has what they read in: ${views.join('; ')}.`
    : ' The token that writes it was not captured.';
}

/** What is said of a token. */
function saidOf(trace, token, { reads, readBy }, quoted, listed) {
  const name = `${token > trace.think_close ? 'answer ' : token > trace.think_open ? 'reasoning ' : ''}token ${token}`;
  const named = h('strong', {}, `${name} ${quoted(token)}`);
  const looking = Object.entries(readBy).filter(([, ends]) => ends.length);
  return [
    reads.length
      ? h('p', {}, `After ${quoted(token - 1)}, while writing `, named, ':')
      : h('p', {}, named, '.', unread(trace, token)),
    reads.map((one) => partSaid(one, listed)),
    looking.map(([part, ends]) => h('p', {}, `Looked at while writing the ${part}: `, listed(ends), '.')),
    looking.length ? [] : h('p', {}, 'No token is known to look at it much.'),
  ].flat();
}

/**
 * Lets one point at a token, hold it with a click or the keys, and pin it to hold another beside it:
 * describe(token), hold(token, pinned), rest(). go(token) holds another, pin() keeps the held one, release(token).
 */
function holdTokens(holder, paint, { describe, hold, rest }) {
  let held = []; // the pinned tokens, and last the one in hand
  const take = (tokens) => {
    held = tokens;
    const last = held.at(-1);
    const pinned = [...new Set(held)].filter((token) => token !== last);
    STATE.token = [...pinned, ...held.slice(-1)].join(',');
    history.replaceState(null, '', address());
    if (held.length) hold(last, pinned);
    else rest();
  };
  const go = (token) => take([...held.slice(0, -1), token]);
  const pin = () => take([...held, ...held.slice(-1)]);
  const pointed = (act) => (event) => {
    const token = event.target.closest?.('.t')?.dataset.token;
    if (token) act(Number(token), event);
  };
  holder.onpointerover = pointed((token) => held.length || describe(token, []));
  holder.onpointerleave = () => held.length || rest();
  holder.onclick = pointed((token, { shiftKey }) => {
    if (shiftKey) take([...held, token]);
    else if (held.at(-1) === token) take(held.slice(0, -1));
    else go(token);
  });
  holder.onkeydown = (event) => {
    const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
    if (step) {
      const first = () => Number(event.target.querySelector('.t').dataset.token);
      go(held.length ? paint.nearest(held.at(-1) + step, step) : first());
    } else if (event.key === 'Enter') pin();
    else return;
    event.preventDefault();
  };
  unlockReader = () => held.length && take(held.slice(0, -1));
  rest();
  if (STATE.token !== '') requestAnimationFrame(() => take(STATE.token.split(',').map(Number)));
  return { go, pin, release: (token) => take(held.filter((one) => one !== token)) };
}

/** What is pinned: each token with what it reads most, and ways to leave or to add it. */
function pinsSaid(pinned, links, { word, listed, pin, release }) {
  const strongest = (token) => links.reads(token)[0]?.ends ?? [];
  const line = (token) =>
    h(
      'p',
      { class: 'pin' },
      ...['Pinned: ', word({ from: token, to: token + 1 })],
      strongest(token).length ? [', most on ', listed(strongest(token))] : '',
      ' ',
      button('release', () => release(token), { 'aria-label': `Release token ${token}` }),
    );
  return [
    ...pinned.map(line),
    h('p', { class: 'pins' }, button('pin it', pin), ' to hold another token beside it (Enter).'),
  ];
}

/** Colours what a token reads and what reads it, and marks it and the pinned ones; returns the strongest of each kind. */
function paintLinks({ reads, readBy }, token, pinned, paint) {
  const kinds = [
    ...reads.map(({ ends }) => [ends, READS]),
    ...Object.values(readBy).map((ends) => [ends, READ_BY]),
  ].filter(([ends]) => ends.length);
  paint.clear();
  for (const [ends, colours] of kinds) for (const end of ends) paint.tint(end, end.weight / ends[0].weight, colours);
  for (const one of pinned) paint.mark(one, 'pinned');
  paint.mark(token, 'here');
  return kinds.map(([ends]) => ends[0].from).reverse();
}

function tokenView({ trace, links, texts, readout, holder, paint }) {
  if (!links) {
    readout.textContent = 'No links are stored for this trace: dvc repro maps.';
    return null;
  }
  const go = ({ from }) => {
    held.go(from);
    paint.focus(from);
  };
  const quoted = (place) => paint.quoted({ from: place, to: place + 1 });
  const word = (end) => button(`${paint.quoted(end)} (${end.from})`, () => go(end));
  const listed = (ends) => ends.slice(0, 3).map((end, at) => [at ? ', ' : '', word(end), ` ${show(end.weight, 4)}`]);
  const describe = (token, pinned) => {
    const found = { reads: links.reads(token), readBy: links.readBy(token) };
    readout.replaceChildren(...saidOf(trace, token, found, quoted, listed));
    return paintLinks(found, token, pinned, paint);
  };
  /** The text scrolls to the token and to what it is linked with most. */
  const hold = (token, pinned) => {
    readout.classList.remove('steady');
    const strongest = describe(token, pinned);
    readout.append(...pinsSaid(pinned, links, { word, listed, ...held }));
    for (const place of [...strongest, token]) paint.reveal(place);
    announce(readout.textContent);
  };
  const rest = () => {
    readout.classList.add('steady'); // else the text would move under the pointer
    paint.clear();
    readout.textContent = 'Point at a token.';
  };
  const held = holdTokens(holder, paint, { describe, hold, rest });
  return () =>
    links.blocks.flatMap((block) => block.written.flatMap((token) => readRows(block.reads(token), token, texts)));
}

const readRows = ({ part, ends, mass, outside }, token, texts) =>
  ends.map(({ from, weight }) => ({
    ...{ written_token: token, part: PART_NAMES[part], token: from, text: texts[from], weight, mass, outside },
  }));

function tokenCaption(trace, links) {
  const widest = (part) => links?.blocks.find((block) => block.part === part)?.width ?? 0;
  const views = readingViews(trace);
  return (
    'Point at a token, or choose it with a click or the arrow keys (Esc releases it); Enter or a click with Shift pins ' +
    'several, which the address keeps. Blue: what the model looks at while ' +
    'writing it (from the token before); orange: while writing what it is looked at. Each is relative to the largest of ' +
    `its kind. Of an answer token: the strongest ${widest('reasoning')} of the reasoning and ${widest('query')} of question ` +
    'and answer, in steps of 1/65535. ' +
    (views.length
      ? `Of a reasoning token: the strongest ${widest('before') || 'few'} of all text before it, to ` +
        `\u00b1${levelError(trace.floor).toFixed(1)}%, none below ${floorText(trace.floor)}${
          views.length < trace.views.length ? `; in ${views.join('; ')}` : ''
        }. `
      : '') +
    'What looks at a token is known where the token is among these. Underlined: reflection phrases.'
  );
}
