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
  line: '',
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
  model: ['item', 'page', 'head', 'view', 'token', 'line', 'pair', 'cell', 'zhead'],
  dataset: ['item', 'page', 'head', 'view', 'token', 'line'],
  item: ['token', 'line'],
  show: ['page'],
  pair: ['cell'],
  probe: ['cell'],
};

/** The record of a section that is of the chosen model and dataset. */
const chosenRun = (section) => findRecord(section, { model: STATE.model, dataset: STATE.dataset });

/** What may be chosen, where that is a fixed list. */
const choices = () => ({
  model: DATA.overview.models.map((one) => one.name),
  dataset: DATA.overview.datasets.map((one) => one.name),
  setting: SIDES.map(([setting]) => setting),
  show: Object.keys(OUTCOMES),
  source: ['answer', 'reasoning'],
  target: Object.keys(SEGMENTS),
  mode: Object.keys(MODES),
  metric: Object.keys(METRICS),
});

/** Takes the choices from the address; returns a sentence on those that the page does not have. */
function readAddress() {
  const given = new URLSearchParams(location.hash.replace(/^#([^=&]*(&|$))?/, ''));
  const known = choices();
  const unknown = [];
  for (const key of Object.keys(STATE)) {
    STATE[key] = given.get(key) ?? DEFAULTS[key];
    if (!known[key] || known[key].includes(STATE[key])) continue;
    if (given.has(key)) unknown.push(`${key} \u201c${visible(STATE[key])}\u201d`);
    STATE[key] = DEFAULTS[key];
  }
  const items = chosenRun('evaluation')?.items.item_id;
  if (STATE.item && items && !items.includes(STATE.item)) unknown.push(`item \u201c${visible(STATE.item)}\u201d`);
  return unknown.length ? `The address asks for ${unknown.join(', ')}, which this page does not have.` : '';
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
  await redraw(FIGURES.filter((one) => one.keys.some((key) => changed.has(key))));
}

let drawing = 0;
const pause = () => new Promise((done) => setTimeout(done));

/** Draws figures again: at once those in view, then one after the other, so that the page answers meanwhile. */
async function redraw(figures) {
  drawing++;
  document.documentElement.removeAttribute('data-ready');
  const inView = ({ frame }) => {
    const { top, bottom } = frame.getBoundingClientRect();
    return bottom > 0 && top < innerHeight;
  };
  const seen = figures.filter(inView);
  await Promise.all(seen.map((one) => one.redraw()));
  for (const one of figures.filter((each) => !seen.includes(each))) {
    await pause();
    await one.redraw();
  }
  drawing--;
  document.documentElement.toggleAttribute('data-ready', !drawing);
}

/** Goes to a section or figure and keeps the way back. */
function goTo(anchor) {
  history.pushState(null, '', address(anchor));
  document.getElementById(anchor)?.scrollIntoView();
}
