// Parts that several figures share: linear scales, axes, grids of cells that work with mouse and keyboard.

function linear(from, to, start, end) {
  return (value) => start + ((value - from) / (to - from || 1)) * (end - start);
}

function ticks(from, to, most = 6) {
  const rough = (to - from) / most;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((one) => one * unit).find((one) => (to - from) / one <= most);
  const first = Math.ceil(from / step - 1e-9);
  return Array.from({ length: Math.floor(to / step + 1e-9) - first + 1 }, (_, at) => (first + at) * step);
}

const wholeTicks = (from, to, most = 8) => [...new Set(ticks(from, to, most).filter(Number.isInteger))];

/** Text in a picture; anchor: start, middle or end. */
function textAt(x, y, anchor, text, className = null) {
  return s('text', { x, y, 'text-anchor': anchor, class: className }, text);
}

/** The title of an axis, centred on a point; `upright` false turns it to read upwards. */
function axisTitle(x, y, text, upright = true) {
  const transform = upright ? null : `rotate(-90 ${x} ${y})`;
  return s('text', { x, y, 'text-anchor': 'middle', class: 'title', transform }, text);
}

/** Value ticks along the bottom, with faint lines up to `top`. */
function xAxis(scale, values, top, bottom, format = String, lines = true) {
  return s(
    'g',
    { class: 'axis' },
    values.map((value) => [
      lines && s('line', { x1: scale(value), x2: scale(value), y1: top, y2: bottom, class: 'rule' }),
      textAt(scale(value), bottom + 15, 'middle', format(value)),
    ]),
  );
}

function yAxis(scale, values, left, right, format = String) {
  return s(
    'g',
    { class: 'axis' },
    values.map((value) => [
      s('line', { x1: left, x2: right, y1: scale(value), y2: scale(value), class: 'rule' }),
      textAt(left - 7, scale(value) + 4, 'end', format(value)),
    ]),
  );
}

function picture(width, height, label, ...children) {
  return s('svg', { width, height, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': label }, ...children);
}

function diamond(x, y, size = 5) {
  return s('path', { d: `M${x} ${y - size}l${size} ${size}l${-size} ${size}l${-size} ${-size}z`, class: 'diamond' });
}

/** A key of what marks mean: [element for 16 x 12 px, text] pairs. */
function legend(...entries) {
  return h(
    'div',
    { class: 'key' },
    entries
      .filter(Boolean)
      .map(([mark, text]) =>
        h('span', {}, s('svg', { width: 18, height: 12, viewBox: '0 0 18 12', 'aria-hidden': 'true' }, mark), text),
      ),
  );
}

/** One of several pictures beside one another, `width` px wide. */
function panel(width, ...children) {
  const box = h('div', {}, ...children);
  box.style.width = `${width}px`;
  return box;
}

const swatch = (colour) => s('rect', { x: 1, y: 1, width: 15, height: 10, fill: colour });

/**
 * A grid of cells in which one can be chosen, by click, or by arrow keys and Enter.
 * value(row, column) -> number or NaN; colour(value) -> [r, g, b]; name(row, column) -> what is said of a cell;
 * chosen: [row, column] or null; choose(row, column); over: further SVG elements given cell(row, column) -> its box.
 */
function cellGrid({
  id,
  width,
  rows,
  columns,
  rowLabels,
  columnLabels,
  rowTitle,
  columnTitle,
  value,
  colour,
  name,
  chosen,
  choose: pick,
  over = () => [],
  left = 46,
  tallest = 26,
  description,
  data = () => ({}),
}) {
  const size = Math.max((width - left - 8) / columns, 3);
  const tall = Math.min(Math.max(size, 14), tallest);
  const top = 6;
  const bottom = top + rows * tall;
  const wide = left + columns * size + 8;
  const cell = (row, column) => ({ x: left + column * size, y: top + row * tall, width: size, height: tall });
  const grid = s('svg', {
    width: wide,
    height: bottom + 36,
    viewBox: `0 0 ${wide} ${bottom + 36}`,
    tabindex: 0,
    role: 'application',
    'data-key': id,
    class: 'cells',
    'aria-label': `${description}. Arrow keys move over the cells, Enter chooses one.`,
  });
  const title = (row, column) => `${name(row, column)}: ${show(value(row, column), 4)}`;
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const here = value(row, column);
      grid.append(
        s('rect', {
          ...cell(row, column),
          ...data(row, column),
          'data-row': row,
          'data-column': column,
          class: Number.isNaN(here) ? 'cell none' : 'cell',
          fill: Number.isNaN(here) ? null : css(colour(here)),
        }),
      );
    }
  }
  const everyRow = Math.ceil(12 / tall);
  const everyColumn = Math.max(1, Math.ceil(24 / size));
  const labels = s('g', { class: 'axis' });
  for (let row = 0; row < rows; row += everyRow) {
    labels.append(textAt(left - 6, top + (row + 0.5) * tall + 4, 'end', rowLabels(row)));
  }
  for (let column = 0; column < columns; column += everyColumn) {
    labels.append(textAt(left + (column + 0.5) * size, bottom + 14, 'middle', columnLabels(column)));
  }
  labels.append(axisTitle(left + (columns * size) / 2, bottom + 31, columnTitle));
  if (rowTitle) {
    labels.append(axisTitle(11, (top + bottom) / 2, rowTitle, false));
  }
  const cursor = s('rect', { class: 'cursor', width: size, height: tall, visibility: 'hidden' });
  grid.append(labels, ...over(cell));
  if (chosen) grid.append(s('rect', { ...cell(...chosen), class: 'chosen' }));
  grid.append(cursor);
  const tip = s('title');
  grid.prepend(tip);
  let at = chosen ? [...chosen] : [0, 0];
  const move = (row, column, speak) => {
    at = [Math.min(Math.max(row, 0), rows - 1), Math.min(Math.max(column, 0), columns - 1)];
    const box = cell(...at);
    for (const side of ['x', 'y']) cursor.setAttribute(side, box[side]);
    cursor.setAttribute('visibility', 'visible');
    tip.textContent = title(...at);
    if (speak) announce(title(...at));
  };
  const of = (event) =>
    event.target.getAttribute?.('data-row') === null
      ? null
      : ['data-row', 'data-column'].map((side) => Number(event.target.getAttribute(side)));
  grid.addEventListener('pointerover', (event) => {
    const place = of(event);
    if (place) move(...place, false);
  });
  grid.addEventListener('pointerleave', () => cursor.setAttribute('visibility', 'hidden'));
  grid.addEventListener('click', (event) => {
    const place = of(event);
    if (place) pick(...place);
  });
  grid.addEventListener('focus', () => {
    if (grid.matches(':focus-visible')) move(...at, true);
  });
  grid.addEventListener('blur', () => cursor.setAttribute('visibility', 'hidden'));
  grid.addEventListener('keydown', (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    if (step) move(at[0] + step[0], at[1] + step[1], true);
    else if (event.key === 'Home') move(at[0], 0, true);
    else if (event.key === 'End') move(at[0], columns - 1, true);
    else if (event.key === 'Enter' || event.key === ' ') pick(...at);
    else return;
    event.preventDefault();
  });
  return h('div', { class: 'scroll' }, grid);
}

/** Names and values, side by side. */
function facts(pairs) {
  return h(
    'dl',
    { class: 'facts' },
    pairs.map(([name, value]) => [h('dt', {}, name), h('dd', {}, value)]),
  );
}
