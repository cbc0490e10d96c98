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
  sort: '',
  page: '0',
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
  model: ['item', 'page', 'head', 'view', 'token', 'pair', 'cell', 'zhead'],
  dataset: ['item', 'page', 'head', 'view', 'token'],
  item: ['token'],
  show: ['page'],
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
