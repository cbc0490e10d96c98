// What is chosen, kept in the address after #, and the figures that are drawn from it.

const firstOf = (list) => list[0] ?? '';
const STATE = {
  model: firstOf(DATA.overview.models.map((one) => one.name)),
  dataset: firstOf(DATA.overview.datasets.map((one) => one.name)),
  setting: DATA.overview.settings.includes('with_reasoning') ? 'with_reasoning' : firstOf(DATA.overview.settings),
  show: 'all',
  find: '',
  item: '',
  source: 'answer',
  target: 'reasoning',
  head: '',
  trace: '',
  view: '',
  mode: 'tokens',
  token: '',
  pair: '',
  probe: '',
  metric: 'nld',
  cell: '',
  zprobe: '',
  zhead: '',
};
const DEFAULTS = { ...STATE };
const FIGURES = [];
const BELOW = {
  model: ['item', 'head', 'trace', 'view', 'token', 'pair', 'cell', 'zhead'],
  dataset: ['item', 'head', 'trace', 'view', 'token'],
  trace: ['token'],
  pair: ['cell'],
  probe: ['cell'],
};

function readAddress() {
  const given = new URLSearchParams(location.hash.replace(/^#[^=&]*(&|$)/, ''));
  for (const key of Object.keys(STATE)) STATE[key] = given.has(key) ? given.get(key) : DEFAULTS[key];
  if (!DATA.overview.models.some((one) => one.name === STATE.model)) STATE.model = DEFAULTS.model;
  if (!DATA.overview.datasets.some((one) => one.name === STATE.dataset)) STATE.dataset = DEFAULTS.dataset;
}

function anchorInAddress() {
  return /^#([\w-]*)/.exec(location.hash)?.[1] ?? '';
}

function address(anchor = anchorInAddress()) {
  const chosen = Object.entries(STATE).filter(([key, value]) => value !== DEFAULTS[key]);
  const query = new URLSearchParams(chosen).toString();
  return `#${anchor.includes('=') ? '' : anchor}${query ? `&${query}` : ''}`;
}

/** Chooses something: updates the address and redraws the figures that depend on it. */
async function choose(changes) {
  const changed = new Set();
  for (const [key, value] of Object.entries(changes)) {
    if (STATE[key] === value) continue;
    STATE[key] = value;
    changed.add(key);
    for (const lower of BELOW[key] ?? []) {
      if (!(lower in changes) && STATE[lower] !== DEFAULTS[lower]) {
        STATE[lower] = DEFAULTS[lower];
        changed.add(lower);
      }
    }
  }
  if (!changed.size) return;
  history.replaceState(null, '', address());
  await Promise.all(FIGURES.filter((one) => one.keys.some((key) => changed.has(key))).map((one) => one.redraw()));
}

/** Goes to a section or figure and keeps the way back. */
function goTo(anchor) {
  history.pushState(null, '', address(anchor));
  document.getElementById(anchor)?.scrollIntoView();
}

/**
 * A figure with its title, controls, caption and "Copy CSV".
 * keys: the choices it depends on. draw(body, width) fills its body and returns {caption, csv, controls}: csv() gives
 * rows for the clipboard, controls are elements for its head. It may return {missing: 'why'} instead.
 */
function figure({ id, title, keys }, draw) {
  const body = h('div', { class: 'body' });
  const controls = h('div', { class: 'controls' });
  const caption = h('figcaption');
  let csv = null;
  let turn = 0;
  const copy = h(
    'button',
    {
      type: 'button',
      class: 'copy',
      onclick: async () => {
        const done = await copyText(csvText(await csv()));
        copy.textContent = done ? 'Copied' : 'Could not copy';
        announce(done ? `${title}: copied as CSV` : 'The browser did not permit copying');
        setTimeout(() => {
          copy.textContent = 'Copy CSV';
        }, 1600);
      },
    },
    'Copy CSV',
  );
  const frame = h(
    'figure',
    { id, class: 'card' },
    h('div', { class: 'head' }, h('h3', {}, title), controls, copy),
    body,
    caption,
  );
  const redraw = async () => {
    const mine = ++turn;
    const held =
      body.contains(document.activeElement) || controls.contains(document.activeElement)
        ? document.activeElement.closest('[data-key]')?.getAttribute('data-key')
        : null;
    const fresh = h('div');
    let drawn;
    try {
      drawn = await draw(fresh, body.clientWidth || 320);
    } catch (error) {
      drawn = { missing: `This figure cannot be drawn: ${error.message}.` };
    }
    if (mine !== turn) return;
    csv = drawn.csv ?? null;
    copy.hidden = !csv;
    body.replaceChildren(...(drawn.missing ? [h('p', { class: 'missing' }, drawn.missing)] : fresh.childNodes));
    controls.replaceChildren(...(drawn.controls ?? []));
    caption.replaceChildren(...[drawn.missing ? '' : (drawn.caption ?? '')].flat());
    if (held) frame.querySelector(`[data-key="${CSS.escape(held)}"]`)?.focus({ preventScroll: true });
  };
  FIGURES.push({ keys: ['model', 'dataset', ...keys], redraw });
  return frame;
}
