// Figure 2: attention mass by segment, one box a segment over traces.

function boxPanel(run, boxes, width) {
  const names = Object.keys(SEGMENTS).filter((name) => boxes.segments[name]);
  const x = linear(0, 1, 74, width - 58);
  const step = 34;
  const bottom = names.length * step + 6;
  const colour = SETTING_COLOURS[run.setting] ?? BLUE;
  const rows = names.map((name, at) => {
    const box = boxes.segments[name];
    const y = at * step + 8;
    const middle = y + 11;
    const published = STATE.source === 'answer' && run.published ? run.published[name] : null;
    return s(
      'g',
      { 'data-segment': name, 'data-median': box.median },
      s(
        'title',
        {},
        `${SEGMENTS[name]}: median ${show(box.median, 4)}, quartiles ${show(box.q1, 4)} and ${show(box.q3, 4)}`,
      ),
      textAt(67, middle + 4, 'end', SEGMENTS[name]),
      s('path', {
        d: `M${x(box.whisker_low)} ${middle}H${x(box.q1)}M${x(box.q3)} ${middle}H${x(box.whisker_high)}`,
        class: 'whisker',
      }),
      s('rect', {
        x: x(box.q1),
        y,
        width: Math.max(x(box.q3) - x(box.q1), 1),
        height: 22,
        fill: colour,
        'fill-opacity': 0.28,
        class: 'boxed',
      }),
      box.values.map((value) => s('circle', { cx: x(value), cy: middle, r: 1.8, class: 'dot' })),
      s('line', { x1: x(box.median), x2: x(box.median), y1: y - 1, y2: y + 23, stroke: colour, 'stroke-width': 2.6 }),
      published === null || published === undefined ? null : diamond(x(published), y + 22, 4),
      textAt(width - 4, middle + 4, 'end', show(box.median, 4), 'value'),
    );
  });
  return panel(
    width,
    h(
      'h4',
      {},
      `${run.model}, ${words(run.setting)}`,
      h('span', { class: 'muted' }, `n = ${counted(boxes.items.length, 'trace')}`),
    ),
    picture(
      width,
      bottom + 22,
      `Attention mass of ${run.model}, ${words(run.setting)}`,
      xAxis(x, [0, 0.25, 0.5, 0.75, 1], 0, bottom),
      rows,
    ),
  );
}

const boxesFigure = () => figure({ id: 'boxes', title: 'Attention mass by segment', keys: ['source'] }, drawBoxes);

function drawBoxes(body, width) {
  const runs = DATA.attention.filter((run) => run.dataset === STATE.dataset && run.boxes[STATE.source]);
  const controls = [
    picker(
      'from',
      [
        ['answer', 'answer tokens'],
        ['reasoning', 'reasoning tokens'],
      ],
      'source',
    ),
  ];
  if (!runs.length) {
    return {
      controls,
      missing: `No attention from ${STATE.source} tokens on ${STATE.dataset} yet: dvc repro attention.`,
    };
  }
  const each = width > 720 ? (width - 28) / 2 : width;
  body.append(
    h(
      'div',
      { class: 'panels' },
      runs.map((run) => boxPanel(run, run.boxes[STATE.source], each)),
    ),
    runs.some((run) => run.published) && STATE.source === 'answer' ? legend([diamond(9, 6), 'published median']) : '',
  );
  return {
    controls,
    caption:
      `Share of the attention of ${STATE.source} tokens that goes to each segment of the text, on ${STATE.dataset}. ` +
      'A dot is one trace (mean over its tokens, layers and heads); box: quartiles, line and figure: median, ' +
      'whiskers: 1.5 interquartile ranges.',
    csv: () => [
      ['model', 'dataset', 'setting', 'source', 'item_id', ...Object.keys(SEGMENTS)],
      ...runs.flatMap((run) => {
        const boxes = run.boxes[STATE.source];
        return boxes.items.map((item, at) => [
          run.model,
          run.dataset,
          run.setting,
          STATE.source,
          item,
          ...Object.keys(SEGMENTS).map((name) => boxes.segments[name]?.values[at]),
        ]);
      }),
    ],
  };
}
