// Grids of cells that work with mouse and keyboard.

/** Where the cells of a grid lie: cell(row, column) -> its box; at(event) -> [row, column] under the pointer, or null. */
function gridPlaces({ width, rows, columns, left = 46, tallest = 26 }) {
  const top = 6;
  const size = Math.max((width - left - 8) / columns, 3);
  const tall = Math.min(Math.max(size, 14), tallest);
  const [right, bottom] = [left + columns * size, top + rows * tall];
  const cell = (row, column) => ({ x: left + column * size, y: top + row * tall, width: size, height: tall });
  const at = ({ currentTarget, clientX, clientY }) => {
    const box = currentTarget.getBoundingClientRect();
    const [row, column] = [(clientY - box.top - top) / tall, (clientX - box.left - left) / size].map(Math.floor);
    return row >= 0 && row < rows && column >= 0 && column < columns ? [row, column] : null;
  };
  return { left, top, size, tall, right, bottom, cell, at };
}

/** The cells of a grid, those of one colour as one path: thousands of elements would be slow. */
function cellPaths({ rows, columns, value, colour }, { left, top, size, tall }) {
  const paths = new Map();
  for (let row = 0; row < rows; row++) {
    for (let column = 0; column < columns; column++) {
      const here = value(row, column);
      const shade = Number.isNaN(here) ? null : css(colour(here));
      const corner = `M${(left + column * size).toFixed(2)} ${(top + row * tall).toFixed(2)}`;
      paths.set(shade, `${paths.get(shade) ?? ''}${corner}h${size}v${tall}h${-size}z`);
    }
  }
  return Array.from(paths, ([fill, d]) => s('path', { d, fill, class: fill ? 'cell' : 'cell none' }));
}

/** What stands at the sides of a grid, every so many rows and columns that it can be read. */
function gridLabels({ rows, columns, rowLabels = String, columnLabels = String, rowTitle, columnTitle }, places) {
  const { left, top, size, tall, right, bottom } = places;
  const every = (count, step) => Array.from({ length: Math.ceil(count / step) }, (_, at) => at * step);
  return s(
    'g',
    { class: 'axis' },
    every(rows, Math.ceil(12 / tall)).map((row) =>
      textAt(left - 6, top + (row + 0.5) * tall + 4, 'end', rowLabels(row)),
    ),
    every(columns, Math.ceil(24 / size)).map((column) =>
      textAt(left + (column + 0.5) * size, bottom + 14, 'middle', columnLabels(column)),
    ),
    axisTitle((left + right) / 2, bottom + 31, columnTitle),
    rowTitle && axisTitle(11, (top + bottom) / 2, rowTitle, false),
  );
}

/** Lets pointer and keys move over the cells of a grid and choose one. */
function walkCells(grid, { rows, columns, value, name, chosen, choose: pick = () => {} }, places) {
  const [cursor, tip] = [s('rect', { ...places.cell(0, 0), class: 'cursor', visibility: 'hidden' }), s('title')];
  let at = chosen ?? [0, 0];
  const hide = () => cursor.setAttribute('visibility', 'hidden');
  const move = (row, column, speak = false) => {
    at = [Math.min(Math.max(row, 0), rows - 1), Math.min(Math.max(column, 0), columns - 1)];
    fill(cursor, { ...places.cell(...at), visibility: 'visible' }, []);
    tip.textContent = `${name(...at)}: ${show(value(...at), 4)}`;
    if (speak) announce(tip.textContent);
  };
  const under = (act) => (event) => {
    const found = places.at(event);
    if (found) act(...found);
  };
  const onkeydown = (event) => {
    const step = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] }[event.key];
    const edge = { Home: 0, End: columns - 1 }[event.key];
    if (step) move(at[0] + step[0], at[1] + step[1], true);
    else if (edge !== undefined) move(at[0], edge, true);
    else if (event.key === 'Enter' || event.key === ' ') pick(...at);
    else return;
    event.preventDefault();
  };
  const onfocus = () => grid.matches(':focus-visible') && move(...at, true);
  const onpointermove = under((row, column) => move(row, column));
  const events = { onpointermove, onpointerleave: hide, onclick: under(pick), onfocus, onblur: hide, onkeydown };
  fill(grid, events, [tip, cursor]);
}

/**
 * A grid of cells in which one can be chosen, by click, or by arrow keys and Enter.
 * value(row, column) -> number or NaN; colour(value) -> [r, g, b]; name(row, column) -> what is said of a cell;
 * chosen: [row, column] or null; choose(row, column); over: further SVG elements given cell(row, column) -> its box.
 */
function cellGrid(options) {
  const { id, description, chosen, over = () => [] } = options;
  const places = gridPlaces(options);
  const [wide, high] = [places.right + 8, places.bottom + 36];
  const look = { width: wide, height: high, viewBox: `0 0 ${wide} ${high}`, class: 'cells', 'data-key': id };
  const said = `${description}. Arrow keys move over the cells, Enter chooses one.`;
  const grid = s(
    'svg',
    { ...look, tabindex: 0, role: 'application', 'aria-label': said },
    cellPaths(options, places),
    gridLabels(options, places),
    over(places.cell),
    chosen && s('rect', { ...places.cell(...chosen), class: 'chosen' }),
  );
  walkCells(grid, options, places);
  return h('div', { class: 'scroll' }, grid);
}

/** The largest magnitude of some numbers, 1 where all are 0. */
const largestOf = (values) => Math.max(...Array.from(values, (one) => Math.abs(one) || 0)) || 1;

/** A grid of cells with a head each; what it shows is as for `cellGrid`. */
const headGrid = ([layers, heads], options) =>
  cellGrid({ ...options, rows: layers, columns: heads, rowTitle: 'layer', columnTitle: 'head', name: headName });

/** A value of each head, row by row, as records; fields(index) -> what is known of one. */
const headRows = (count, heads, fields) =>
  Array.from({ length: count }, (_, at) => ({ layer: Math.floor(at / heads), head: at % heads, ...fields(at) }));
