// What is chosen, kept in the address after #, and the figures that are drawn from it.

const STATE = {};
const KEYS = {}; // by name, in the order in which an address is checked: {start, has, below}
const FIGURES = [];

/**
 * A choice that an address may name: where it starts, has(value) -> whether the page has it, where what is declared before
 * is chosen, and which choices start again when it changes. Each view declares its own.
 */
function declare(name, start, has, below = []) {
  KEYS[name] = { start, has, below };
  STATE[name] = start;
}

const anyText = () => true;
const oneOf = (list) => (value) => list().includes(value);
/** Whether a text is as many whole numbers, joined by dots, as there are ends, each from 0 to less than its end. */
const within = (text, ends) =>
  /^\d+(\.\d+)*$/.test(text) &&
  text.split('.').length === ends.length &&
  text.split('.').every((one, at) => Number(one) < ends[at]);
const firstOf = (list) => list[0] ?? '';
const namesOf = (part) => DATA.overview[part].map((one) => one.name);
const ofModel = ['item', 'page', 'head', 'view', 'token', 'line'];

declare(
  'model',
  firstOf(namesOf('models')),
  oneOf(() => namesOf('models')),
  [...ofModel, ...['pair', 'cell', 'zprobe', 'zhead']],
);
declare(
  'dataset',
  firstOf(namesOf('datasets')),
  oneOf(() => namesOf('datasets')),
  ofModel,
);
declare('note', '', anyText);

/** The record of a section that is of the chosen model and dataset. */
const chosenRun = (section) => findRecord(section, { model: STATE.model, dataset: STATE.dataset });

/** Takes the choices from the address; what the page does not have falls back, and is named in the list that it returns. */
async function readAddress() {
  const given = new URLSearchParams(location.hash.replace(/^#([^=&]*(&|$))?/, ''));
  const named = ([key, value]) => `${key} \u201c${value}\u201d`;
  const unknown = [...given].filter(([key]) => !Object.hasOwn(KEYS, key)).map(named);
  for (const [key, { start, has }] of Object.entries(KEYS)) {
    const value = given.get(key) ?? start;
    const known = value === start || (await has(value));
    if (!known) unknown.push(named([key, value]));
    STATE[key] = known ? value : start;
  }
  return unknown;
}

const anchorInAddress = () => /^#([^=&]*)(&|$)/.exec(location.hash)?.[1] ?? '';

function address(anchor = anchorInAddress()) {
  const query = new URLSearchParams(Object.entries(STATE).filter(([key, value]) => value !== KEYS[key].start));
  return `#${[anchor, query.toString()].filter((part, at) => at === 0 || part).join('&')}`;
}

/** Chooses something: updates the address and redraws the figures that depend on it. */
async function choose(changes) {
  const changed = new Set();
  for (const [key, value] of Object.entries(changes)) {
    if (STATE[key] === value) continue;
    STATE[key] = value;
    changed.add(key);
    for (const lower of KEYS[key].below) {
      if (lower in changes || STATE[lower] === KEYS[lower].start) continue;
      STATE[lower] = KEYS[lower].start;
      changed.add(lower);
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
