// Lines of a trace by lines in the reader: how much a token of one looks at a token of the other, over even reading.

/** Ratios by level, NaN where there is none; see encode.py. */
const RATIOS = Array.from({ length: CODES.levels + 1 }, (_, level) =>
  level ? 2 ** (CODES.octaves * (2 * shareOf(level) - 1)) : NaN,
);
const RATIO_ERROR = 100 * (2 ** (CODES.octaves / (CODES.levels - 1)) - 1); // %
const OCTAVES = 3; // to the strongest colours

/** The lines of a trace, and of each pair how often even reading, and even reading itself, in one view. */
async function linesOf(trace, at) {
  const { start, end, joined, views } = trace.lines;
  const { ratios, even } = await allNumbers(views[at]);
  const place = (row, column) => row * start.length + column;
  const ratio = (row, column) => RATIOS[ratios.values[place(row, column)]];
  const evenly = (row, column) => even.values[place(row, column)];
  const lines = start.map((from, number) => ({ number, from, to: end[number] }));
  const pairs = lines.flatMap((row) => lines.slice(0, row.number + 1).map((column) => [row.number, column.number]));
  return { lines, joined, ratio, weight: (...pair) => ratio(...pair) * evenly(...pair), evenly, pairs };
}

/** Where question, reasoning and answer meet, as lines across the grid. */
function partBorders(trace, lines, cell) {
  const firsts = [trace.think_open, trace.think_close].map((tag) => lines.findIndex(({ from }) => from > tag));
  const { x, y } = cell(0, 0);
  const corner = cell(lines.length, lines.length);
  return firsts
    .filter((first) => first > 0)
    .map((first) => cell(first, first))
    .flatMap((at) => [crossLine(at.x, y, at.x, corner.y), crossLine(x, at.y, corner.x, at.y)]);
}

const choosePair = (row, column) => choose({ line: `${row}.${column}` });

function lineGrid(trace, { lines, ratio }, chosen, label, width) {
  const named = (row, column) => `line ${row + 1} ${label(row, 30)} on line ${column + 1} ${label(column, 30)}`;
  return cellGrid({
    ...{ id: 'line-grid', width, rows: lines.length, columns: lines.length, chosen, choose: choosePair },
    tallest: Math.min(Math.max(420 / lines.length, 4), 22),
    rowLabels: (row) => row + 1,
    columnLabels: (column) => column + 1,
    rowTitle: 'line that looks',
    columnTitle: 'line looked at',
    description: 'Attention of lines on lines, times even reading',
    value: ratio,
    colour: (value) => diverging(Math.log2(value) / OCTAVES),
    name: (row, column) => `${named(row, column)}, times even reading`,
    over: (cell) => partBorders(trace, lines, cell),
  });
}

/** The ten pairs of two lines that are furthest above even reading. */
function pairTable({ ratio, weight, pairs }, label) {
  const most = pairs
    .filter(([row, column]) => row !== column && ratio(row, column) > 0)
    .sort((one, other) => ratio(...other) - ratio(...one));
  const cells = ([row, column]) => [
    button(`${row + 1}: ${label(row, 50)}`, () => choosePair(row, column)),
    `${column + 1}: ${label(column, 50)}`,
    show(ratio(row, column), 2),
    show(weight(row, column), 4),
  ];
  const columns = [
    ['line that looks'],
    ['line looked at'],
    ['times even reading', 'number'],
    ['mean weight', 'number'],
  ];
  return table(columns, most.slice(0, 10).map(cells));
}

/** What is said of a pair of lines. */
function pairSaid({ ratio, weight, evenly }, label, row, column) {
  if (Number.isNaN(ratio(row, column)))
    return `Line ${row + 1} cannot look at line ${column + 1}, or was not captured.`;
  return (
    `A token of line ${row + 1} ${label(row)} puts ${show(weight(row, column), 4)} on a token of line ${column + 1} ` +
    `${label(column)}: ${show(ratio(row, column), 2)} times even reading (${show(evenly(row, column), 4)}).`
  );
}

async function lineView({ trace, at, readout, paint, width }) {
  if (!trace.lines) {
    readout.textContent = 'Which line reads which is not stored for this trace: dvc repro maps.';
    return null;
  }
  const found = await linesOf(trace, at);
  const { lines, ratio, weight, evenly, pairs } = found;
  const chosen = STATE.line ? STATE.line.split('.').map(Number) : null;
  const label = (number, most = 60) => paint.quoted(lines[number], most);
  const said = chosen
    ? pairSaid(found, label, ...chosen)
    : 'Choose a cell to read it and to see both lines in the text.';
  readout.replaceChildren(
    lineGrid(trace, found, chosen, label, width),
    divergingBar('times even reading, 1 in the middle', OCTAVES, '1/8', '8'),
    h('p', {}, said),
    pairTable(found, label),
  );
  if (chosen) showPair(lines[chosen[0]], lines[chosen[1]], paint, said);
  return () =>
    pairs.map(([row, column]) => ({
      ...{ line: row, start: lines[row].from, end: lines[row].to, on_line: column },
      ...{ on_start: lines[column].from, on_end: lines[column].to, mean_weight: weight(row, column) },
      ...{ even_reading: evenly(row, column), times_even: ratio(row, column) },
    }));
}

/** Colours both lines in the text, which scrolls to them. */
function showPair(looking, seen, paint, text) {
  paint.tint(looking, 1, READ_BY);
  paint.tint(seen, 1, READS);
  requestAnimationFrame(() => {
    for (const { from } of [seen, looking]) paint.reveal(from);
  });
  announce(text);
}

const lineCaption = ({ lines }) =>
  'Each cell: attention weight of a token of the row\u2019s line on a token of the column\u2019s line, mean over both, over even ' +
  'reading of all that each token sees: blue more, orange less, full at 8 times; to ' +
  `\u00b1${RATIO_ERROR.toFixed(1)}% and from 1/${2 ** CODES.octaves} to ${2 ** CODES.octaves}. A part of the text that is one line is cut into ` +
  'sentences. Dashed: where question, reasoning and answer meet. Blank: not seen, or not captured. In the text, orange looks at blue.' +
  (lines?.joined > 1 ? ` Up to ${lines.joined} neighbouring lines count as one.` : '');
