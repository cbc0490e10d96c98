// Elements and texts. Text reaches the document as text nodes only, never as markup.

const NAMESPACE = document.getElementById('space').namespaceURI;

function append(element, child) {
  if (Array.isArray(child)) for (const one of child) append(element, one);
  else if (child !== null && child !== undefined && child !== false)
    element.append(child instanceof Node ? child : String(child));
}

function fill(element, attributes, children) {
  append(element, children);
  for (const name in attributes) {
    const value = attributes[name];
    if (value === null || value === undefined || value === false) continue;
    if (name.startsWith('on')) element.addEventListener(name.slice(2), value);
    else if (name === 'value') element.value = value;
    else element.setAttribute(name, value === true ? '' : value);
  }
  return element;
}

/** An HTML element: h('p', {class: 'note'}, 'text', otherElement). */
function h(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

/** An SVG element. */
function s(name, attributes = {}, ...children) {
  return fill(document.createElementNS(NAMESPACE, name), attributes, children);
}

function button(text, onclick, attributes = {}) {
  return h('button', { type: 'button', onclick, ...attributes }, text);
}

const CONTROL = /[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2060-\u2069\ufeff]/g;
const LONE = /[\ud800-\udbff](?![\udc00-\udfff])|(?<![\ud800-\udbff])[\udc00-\udfff]/g;

/** Text a model wrote, with what cannot be seen (control, direction and half characters) named as \u2039202e\u203a. */
function visible(text) {
  const named = (character) => `\u2039${character.charCodeAt(0).toString(16).padStart(4, '0')}\u203a`;
  return String(text).replace(/\r\n?/g, '\n').replace(CONTROL, named).replace(LONE, named);
}

const shortened = (text, most) => (text.length > most ? `${text.slice(0, most - 1)}\u2026` : text);

/** A token in one line, a sign where it is only white space. */
const shortText = (text, most = Infinity) =>
  shortened(visible(text).replaceAll('\n', '\u21b5').trim() || '\u2423', most);

/** A number with exactly `digits` decimals, halves away from 0, a dash for none; what rounds to 0 has no sign. */
function fixed(value, digits) {
  return value === null || value === undefined || Number.isNaN(value)
    ? '\u2013'
    : ((Math.sign(value) * Math.round(Number((Math.abs(value) * 10 ** digits).toPrecision(14)))) / 10 ** digits)
        .toFixed(digits)
        .replace(/^-(?=[0.]*$)/, '')
        .replace('-', '\u2212');
}

/** Writes a mean with its 95% interval, where it has one. */
function withInterval({ mean, low, high }, digits = 3) {
  return low === null
    ? show(mean, digits)
    : `${show(mean, digits)} (95% ${show(low, digits)} to ${show(high, digits)})`;
}

/** A number for people: `digits` decimals, more for small ones, a dash for none. */
function show(value, digits = 3) {
  if (value === null || value === undefined || Number.isNaN(value)) return '\u2013';
  if (Number.isInteger(value) && Math.abs(value) < 1e15) return String(value).replace('-', '\u2212');
  if (value !== 0 && Math.abs(value) < 0.5 * 10 ** -digits) return value.toExponential(1).replaceAll('-', '\u2212');
  return fixed(value, digits);
}

function counted(number, noun, many = `${noun}s`) {
  return `${number} ${number === 1 ? noun : many}`;
}

function words(name) {
  return String(name).replaceAll('_', ' ');
}

/** A labelled drop-down list that sets STATE[name]. options: values, or [value, label] pairs. */
function picker(label, options, name, current = STATE[name]) {
  const list = h(
    'select',
    { onchange: () => choose({ [name]: list.value }) },
    options
      .map((option) => [option].flat())
      .map(([value, text = value]) => h('option', { value, selected: value === current }, text)),
  );
  return h('label', { class: 'picker' }, h('span', {}, label), list);
}

/** Says something to screen readers. */
function announce(text) {
  document.getElementById('live').textContent = visible(text);
}

/** The rows of a table that is given by columns, as records; at: which, if not all. */
function rowsOf(columns, at = Object.values(columns)[0].map((_, row) => row)) {
  return at.map((row) => Object.fromEntries(Object.entries(columns).map(([name, values]) => [name, values[row]])));
}

/** Some fields of a record, in this order. */
const picked = (record, names) => Object.fromEntries(names.map((name) => [name, record[name]]));

/** Records as CSV. Text that a spreadsheet would run as a formula gets an apostrophe in front. */
function csvText(records) {
  const cell = (value) => {
    if (value === null || value === undefined || Number.isNaN(value)) return '';
    if (typeof value === 'number' || typeof value === 'boolean') return String(value);
    const text = /^[=+\-@\t\r]/.test(value) ? `'${value}` : String(value);
    return /[",\n\r]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text;
  };
  const names = [...new Set(records.flatMap(Object.keys))];
  const rows = [names, ...records.map((one) => names.map((name) => one[name]))];
  return rows.map((row) => row.map(cell).join(',')).join('\n') + '\n';
}

/** A table; columns: [name, class] pairs, the first column heads its rows. */
function table(columns, rows, className = '') {
  const cell = (tag, value, at, scope = null) => h(tag, { scope, class: columns[at][1] ?? '' }, value);
  const line = (row) => row.map((value, at) => (at ? cell('td', value, at) : cell('th', value, at, 'row')));
  const head = columns.map(([name], at) => cell('th', name, at, 'col'));
  const body = rows.map((row) => h('tr', {}, line(row)));
  const whole = h('table', { class: className }, h('thead', {}, h('tr', {}, head)), h('tbody', {}, body));
  return h('div', { class: 'scroll' }, whole);
}

/** Text behind a line that opens it. */
function fold(summary, ...children) {
  return h('details', {}, h('summary', {}, summary), ...children);
}

function bullets(texts, attributes = {}) {
  return h(
    'ul',
    attributes,
    texts.map((text) => h('li', {}, visible(text))),
  );
}

/** A link to a section or figure of this page, which chooses something there. */
function linkTo(anchor, text, choices = {}) {
  const go = async (event) => {
    event.preventDefault();
    await choose(choices);
    goTo(anchor);
  };
  return h('a', { href: `#${anchor}`, onclick: go }, text);
}

/** Says of a part that is not in the page why: it was left out, or, as `missing` says, not made. */
function leftOut(missing) {
  return DATA.left_out.length > 0 ? 'Left out to keep the page small (report.megabytes in params.yaml).' : missing;
}
