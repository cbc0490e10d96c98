// Numbers side by side: the paper's and this run's, the models of this run, or another run's and this one's.

const DECIMALS = { '%': 1, points: 1, layer: 1, '1 to 10': 1, items: 0, heads: 0, pairs: 0, 'attention mass': 4 };

/** Whether a difference has an interval that leaves out 0. */
const isClear = ({ difference: one }) => one !== null && one.low !== null && (one.low > 0 || one.high < 0);

/** A number over its interval; signed: with its sign, as a difference has. */
function besideCell(one, digits, signed = false) {
  if (!one) return '\u2013';
  const text = (value) => `${signed && value >= 0.5 * 10 ** -digits ? '+' : ''}${fixed(value, digits)}`;
  const ends = h('div', { class: 'muted' }, `${text(one.low)} to ${text(one.high)}`);
  return [text(one.value), one.low !== null && ends];
}

/** Over how many items a difference is paired, and McNemar's p where it has one. */
const pairedText = ({ n, p }) => `n = ${n}${p === null ? '' : `, p = ${show(p)}`}`;

function besideRow(row, models) {
  const digits = DECIMALS[row.unit] ?? 3;
  const paired = row.difference?.n && h('div', { class: 'muted' }, pairedText(row.difference));
  const change = [besideCell(row.difference, digits, true), paired];
  return [
    [row.measure, h('span', { class: 'muted' }, ` ${row.unit}`)],
    ...(models ? [visible(row.model || 'all')] : []),
    ...row.cells.map((one) => besideCell(one, digits)),
    ...(row.cells.length === 2 ? [isClear(row) ? h('b', {}, change) : change] : []),
  ];
}

/** A row of the copied table: value, low and high of each column, and of the difference, under its name, with n and p. */
function besideRecord(row, columns) {
  const parts = ['value', 'low', 'high'];
  const named = [
    ...columns.map((name, at) => [name, row.cells[at], parts]),
    ['difference', row.difference, [...parts, 'n', 'p']],
  ];
  const cells = named.flatMap(([name, one, known]) => known.map((part) => [`${name} ${part}`, one?.[part]]));
  return { ...picked(row, ['model', 'dataset', 'measure', 'unit']), ...Object.fromEntries(cells) };
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
    `Difference: ${columns[1]} less ${columns[0]}, bold where its 95% interval leaves out 0. With n below it: over the n items ` +
    'that both answered to the same questions, item by item, p being that of McNemar\u2019s exact test. Without: the items differ, or are ' +
    'not known, so that both count as independent, with Newcombe\u2019s interval from theirs.';
  const certain = shown.filter((row) => row.difference !== null && row.difference.low !== null);
  const clear = certain.filter(isClear).length;
  return {
    answer:
      certain.length > 0 &&
      `In ${clear} of ${counted(certain.length, 'number')} with intervals, that of the difference leaves out 0.`,
    caption: visible(
      `Numbers of ${models.length === 1 ? `${models[0]} on ` : ''}${STATE.dataset}, and those that are of no single dataset. Below a ` +
        `number: its 95% interval. ${columns.length === 2 ? difference : ''}`,
    ),
    csv: () => rows.map((row) => besideRecord(row, columns)),
  };
}
