// Numbers side by side: the paper's and this run's, the models of this run, or another run's and this one's.

const DECIMALS = { '%': 1, points: 1, layer: 1, '1 to 10': 1, items: 0, heads: 0, pairs: 0, 'attention mass': 4 };

/** Whether the 95% intervals of two cells lie apart. */
const liesApart = ([a, b]) => a && b && a.low !== null && b.low !== null && (a.high < b.low || b.high < a.low);

function besideCell(one, digits) {
  if (!one) return '\u2013';
  const ends = h('div', { class: 'muted' }, `${fixed(one.low, digits)} to ${fixed(one.high, digits)}`);
  return [fixed(one.value, digits), one.low !== null && ends];
}

function besideRow(row, models) {
  const digits = DECIMALS[row.unit] ?? 3;
  const change = `${row.difference >= 0.5 * 10 ** -digits ? '+' : ''}${fixed(row.difference, digits)}`;
  return [
    [row.measure, h('span', { class: 'muted' }, ` ${row.unit}`)],
    ...(models ? [visible(row.model || 'all')] : []),
    ...row.cells.map((one) => besideCell(one, digits)),
    ...(row.cells.length === 2 ? [liesApart(row.cells) ? h('b', {}, change) : change] : []),
  ];
}

/** A row of the copied table: value, low and high of each column under its name. */
function besideRecord(row, columns) {
  const cells = columns.flatMap((name, at) =>
    ['value', 'low', 'high'].map((part) => [`${name} ${part}`, row.cells[at]?.[part]]),
  );
  return { ...picked(row, ['model', 'dataset', 'measure', 'unit', 'difference']), ...Object.fromEntries(cells) };
}

function drawBeside(body, { columns, rows, only }) {
  const shown = rows.filter((row) => !row.dataset || row.dataset === STATE.dataset);
  const models = [...new Set(rows.map((row) => row.model))].filter(Boolean);
  const several = models.length > 1;
  const heads = [...columns, ...(columns.length === 2 ? ['difference'] : [])].map((name) => [visible(name), 'number']);
  body.append(
    table(
      [['measure'], ...(several ? [['model']] : []), ...heads],
      shown.map((row) => besideRow(row, several)),
      'sides',
    ),
    bullets(only),
  );
  const difference =
    `Difference: ${columns[1]} less ${columns[0]}, bold where both have an interval and these lie apart. It has no interval ` +
    'of its own, as both may be of the same questions.';
  const certain = shown.filter(({ cells }) => cells.length === 2 && cells.every((one) => one && one.low !== null));
  const apart = certain.filter((row) => liesApart(row.cells)).length;
  return {
    answer: certain.length > 0 && `In ${apart} of ${counted(certain.length, 'number')} with intervals, these lie apart.`,
    caption: visible(
      `${several ? '' : `${models.join()} on `}${STATE.dataset}, with the numbers that are of no single dataset. Below a ` +
        `number: its 95% interval. ${columns.length === 2 ? difference : ''}`,
    ),
    csv: () => rows.map((row) => besideRecord(row, columns)),
  };
}
