// Which instrument tells answers that depend on the trace from others, and how far the instruments agree.

const AUC_LEVELS = { item: ['single items', BLUE, -3], model: ['means of a model on a dataset', ORANGE, 3] };

function aucPanel(found, width) {
  const marks = (one, x, y) => {
    const [level, colour, lift] = AUC_LEVELS[one.level];
    const auc = { mean: one.auc, low: one.low, high: one.high };
    const said =
      `${one.label}, ${level}: ${withInterval(auc, 2)}, ` +
      `${one.n_depends} and ${one.n_others}; ${show(one.passes, 1)} passes over a trace`;
    const mark = intervalMark(x, y + lift, auc, colour, said, 3.5);
    return s('g', { 'data-auc': `${one.instrument} ${one.level}` }, mark);
  };
  return [
    h('h4', {}, 'AUC: answers that depend on the trace, and others'),
    rowChart({
      width,
      label: 'AUC of every instrument with its 95% interval',
      rows: [...new Set(found.map((one) => one.label))],
      ends: [0, 1],
      format: (value) => show(value, 1),
      unit: 'AUC; * circular',
      guides: [0.5],
      name: (label) => label,
      marks: (label, x, y) => found.filter((one) => one.label === label).map((one) => marks(one, x, y)),
    }),
    legend(...Object.values(AUC_LEVELS).map(([label, colour]) => [swatch(colour), label])),
  ];
}

function agreementPanel({ labels, rho, told }, width) {
  const named = 34 + 6.6 * Math.max(...labels.map((label) => label.length));
  const roomy = width > 2 * named; // else the names stand below
  const dots = (cell) =>
    told.flatMap((row, at) =>
      row.map((beyond, column) => {
        const { x, y, width: wide, height } = cell(at, column);
        const place = { cx: x + wide / 2, cy: y + height / 2, r: 2, class: 'dot', 'data-told': `${at} ${column}` };
        return beyond ? s('circle', place) : '';
      }),
    );
  return [
    h('h4', {}, 'agreement: Spearman\u2019s rho over items within datasets'),
    cellGrid({
      id: 'agreement',
      width,
      rows: labels.length,
      columns: labels.length,
      rowLabels: (row) => (roomy ? `${labels[row]} ${row + 1}` : row + 1),
      columnLabels: (column) => column + 1,
      columnTitle: 'instrument, by number',
      value: (row, column) => rho[row][column] ?? NaN,
      colour: diverging,
      name: (row, column) => `${labels[row]} and ${labels[column]}`,
      over: dots,
      left: roomy ? named : 34,
      description: 'How alike two instruments rank the items',
    }),
    divergingBar('rho', 1),
    !roomy &&
      h(
        'ol',
        { class: 'note' },
        labels.map((label) => h('li', {}, label)),
      ),
  ];
}

function drawInstruments(body, width) {
  const run = findRecord('instruments', { model: STATE.model });
  if (!run) return { missing: 'The instruments have not been compared: dvc repro instruments.' };
  if (!run.labels.length) return { missing: `No two instruments have measured enough items of ${STATE.model}.` };
  const auc = run.auc.length ? [(each) => aucPanel(run.auc, each)] : [];
  body.append(panels(width, [...auc, (each) => agreementPanel(run, each)], 1000));
  return {
    answer: run.answer,
    words: run.sentences,
    caption:
      `${STATE.model}, ${run.n[0] === run.n[1] ? run.n[0] : run.n.join(' to ')} items. Every instrument is turned so that more means: the answer ` +
      'depends on the trace. Dots: more clearly than items dealt at random, 5%, Holm over all pairs.',
    csv: () => [
      ...run.labels.flatMap((first, row) =>
        run.labels
          .slice(row + 1)
          .map((second, at) => ({ model: STATE.model, first, second, rho: run.rho[row][row + 1 + at] })),
      ),
      ...run.auc,
    ],
  };
}
