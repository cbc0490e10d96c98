// The frame of a figure: title, the sentence that answers, picture, caption, and below them how it was measured and what
// can be taken away: its numbers, its address, its picture.

async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = h('textarea', { class: 'unseen', 'aria-hidden': 'true' });
    document.body.append(area);
    area.value = text;
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    return done;
  }
}

/** A button that says for a moment whether its work was done: work() -> true or false. */
function doing(name, label, work) {
  const pressed = button(
    label,
    async () => {
      pressed.textContent = (await work()) ? 'Done' : 'Could not';
      announce(`${label}: ${pressed.textContent}`);
      setTimeout(() => {
        pressed.textContent = label;
      }, 1600);
    },
    { class: name },
  );
  return pressed;
}

/** How a figure is measured: formula, stage, code, files of the chosen model and dataset, and params when opened. */
function howMeasured(id) {
  const { how, stage, code, params, data } = DATA.measured[id];
  const named = (name, texts) => [`${name} `, texts.map((text, at) => [at ? ', ' : '', h('code', {}, text)]), '. '];
  const taken = DATA.overview.params.filter(({ key }) => params.some((one) => `${key}.`.startsWith(`${one}.`)));
  const place = (path) => {
    const reader = DATA.readers.find((one) => one.model === STATE.model)?.reader ?? '';
    const names = { '{model}': STATE.model, '{dataset}': STATE.dataset, '{reader}': reader };
    return path.replace(/\{\w+\}/g, (name) => names[name]);
  };
  const where = h('p', { class: 'note' });
  const opened = fold('How measured', h('p', {}, how), where);
  opened.addEventListener('toggle', () => {
    where.replaceChildren();
    const settings = bullets(taken.map(({ key, value }) => `${key}: ${value}`));
    append(where, [named('Stage', [stage]), named('code', code), named('files', data.map(place))]);
    append(where, [linkTo('words', 'Words'), fold(`Settings (${taken.length})`, settings)]);
  });
  return opened;
}

/** The elements of a figure, empty; csv() -> rows for the clipboard. */
function figureParts(id, title, csv) {
  const [body, controls] = ['body', 'controls'].map((name) => h('div', { class: name }));
  const [answer, words, caption] = [h('p', { class: 'says' }), h('div'), h('figcaption')];
  const copy = doing('copy', 'Copy CSV', async () => copyText(csvText(await csv())));
  const save = (kind, make) =>
    doing('save', kind.toUpperCase(), async () => {
      download(`${id}.${kind}`, await make(pictureOf(body.closest('figure'))));
      return true;
    });
  const saves = [save('svg', ({ text }) => new Blob([text], { type: 'image/svg+xml' })), save('png', pngOf)];
  const link = doing('link', 'Copy link', () => copyText(location.href.replace(/#.*/, '') + address(id)));
  const frame = h(
    'figure',
    { id, class: 'card' },
    h('div', { class: 'head' }, h('h3', {}, title), controls),
    answer,
    body,
    caption,
    h('div', { class: 'foot' }, h('div', {}, words, howMeasured(id)), h('div', { class: 'tools' }, copy, link, saves)),
  );
  return { frame, body, controls, answer, words, caption, copy, saves };
}

/** Puts into its elements what a figure's draw returned; fresh: what it filled. */
function fillFigure({ body, controls, answer, words, caption, copy, saves }, drawn, fresh) {
  copy.hidden = !drawn.csv;
  for (const one of saves) one.hidden = Boolean(drawn.missing);
  if (drawn.missing) fresh.replaceChildren(h('p', { class: 'missing' }, drawn.missing));
  if (!drawn.kept) body.replaceChildren(...fresh.childNodes);
  controls.replaceChildren(...(drawn.controls ?? []));
  answer.textContent = visible(drawn.missing ? '' : drawn.answer || '');
  words.replaceChildren(...(drawn.words?.length ? [fold('In words', bullets(drawn.words))] : []));
  caption.replaceChildren(...[drawn.missing ? '' : (drawn.caption ?? '')].flat());
}

/**
 * draw(body, width) fills its body and returns {answer, words, caption, csv, controls}:
 * answer is the sentence on top, words further ones to be opened, csv() gives rows for the clipboard, controls are
 * elements for its head. It may return {missing: 'why'} instead, and
 * kept where it changed what is there already. sign() tells apart what it shows: where that and the
 * width are the same, it is not drawn again.
 */
function figure(id, title, draw, keys = [], there = null, sign = () => NaN) {
  let csv = null;
  let turn = 0;
  let shown = null;
  const parts = figureParts(id, title, () => csv());
  const { frame, body, controls } = parts;
  const redrawn = async () => {
    const mine = ++turn;
    const signed = sign() + body.clientWidth;
    if (signed === shown) return;
    const active = document.activeElement;
    const held = [body, controls].some((one) => one.contains(active))
      ? active.closest('[data-key]')?.getAttribute('data-key')
      : null;
    const fresh = h('div');
    shown = null; // until it is drawn: what is asked for meanwhile is drawn after it
    let drawn;
    try {
      drawn = await draw(fresh, body.clientWidth || 320);
    } catch (error) {
      drawn = { missing: `This figure cannot be drawn: ${error.message}.` };
    }
    if (mine !== turn) return;
    shown = signed;
    csv = drawn.csv ?? null;
    fillFigure(parts, drawn, fresh);
    if (held) frame.querySelector(`[data-key="${CSS.escape(held)}"]`)?.focus({ preventScroll: true });
  };
  FIGURES.push({ keys: ['model', 'dataset', ...keys], frame, redraw: redrawn });
  return frame;
}
