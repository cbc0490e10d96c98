// Which instrument tells answers that depend on the trace from others, and how far the instruments agree.

function aucPanel({ auc, beliefs }, width) {
  const found = auc.filter((one) => one.level === 'pair');
  const pairOf = (one) => `${one.depends} against ${one.other}`;
  const pairs = [...new Set(found.map(pairOf))];
  const colourOf = (pair) => DATA.palette[pairs.indexOf(pair) % DATA.palette.length];
  const mark = (one, x, y) => {
    const pair = pairOf(one);
    const lift = (12 * (pairs.indexOf(pair) + 0.5)) / pairs.length - 6;
    const said =
      `${pair}: ${withInterval({ ...one, mean: one.auc }, 2)}, ` +
      `${one.n_depends} and ${one.n_others}; ${show(one.passes, 1)} passes over a trace`;
    const drawn = intervalMark(x, y + lift, { ...one, mean: one.auc }, colourOf(pair), said, 3);
    return s('g', { 'data-auc': `${one.instrument} ${pair}` }, drawn);
  };
  return [
    h('h4', {}, 'AUC: answers that depend on the trace, and others, by pairs of models'),
    rowChart({
      width,
      label: 'AUC of every instrument and pair of models with its 95% interval',
      rows: beliefs,
      ends: [0, 1],
      format: (value) => show(value, 1),
      unit: 'AUC; * circular',
      guides: [0.5],
      right: 74,
      name: (one) => one.label,
      value: (one) => one.verdict,
      marks: (one, x, y) => [
        one.auc === null && textAt(x(0) + 4, y + 4, 'start', one.why),
        found.filter((each) => each.instrument === one.instrument).map((each) => mark(each, x, y)),
      ],
    }),
    legend(...pairs.map((pair) => [swatch(colourOf(pair)), pair])),
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
  const auc = run.auc.length ? [(each) => aucPanel(run, each)] : [];
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
