// Figure 2: attention mass by segment, one box a segment over traces.

declare(
  'source',
  'answer',
  oneOf(() => ['answer', 'reasoning']),
);

/** One box over its texts: whiskers, quartiles, a dot a text, and the median as a thick line. */
function boxMarks(box, label, colour, x, y) {
  const at = { x: x(box.q1), y: y - 7, width: Math.max(x(box.q3) - x(box.q1), 1), height: 14 };
  return [
    s('title', {}, `${label}: quartiles ${show(box.q1, 4)}, ${show(box.median, 4)} and ${show(box.q3, 4)}`),
    s('path', {
      d: `M${x(box.whisker_low)} ${y}H${x(box.q1)}M${x(box.q3)} ${y}H${x(box.whisker_high)}`,
      class: 'whisker',
    }),
    s('rect', { ...at, fill: colour, 'fill-opacity': 0.28, class: 'boxed' }),
    box.values.map((value, one) => s('circle', { cx: x(value), cy: y - 4 + (one % 3) * 4, r: 1.6, class: 'dot' })),
    s('line', { x1: x(box.median), x2: x(box.median), y1: y - 8, y2: y + 8, stroke: colour, 'stroke-width': 2.6 }),
  ];
}

function boxPanel(run, boxes, width) {
  const published = STATE.source === 'answer' ? run.published : null;
  const marks = (name, x, y) => [
    boxMarks(boxes.segments[name], SEGMENTS[name], SETTING_COLOURS[run.setting] ?? BLUE, x, y),
    name === 'reasoning' &&
      s('path', { d: `M${x(boxes.even)} ${y - 10}v20`, class: 'chance', 'data-even': boxes.even }),
    published?.[name] !== undefined && diamond(x(published[name]), y + 8, 4),
  ];
  return [
    h(
      'h4',
      {},
      `${run.model}, ${words(run.setting)}`,
      h('span', { class: 'muted' }, `n = ${counted(boxes.items.length, 'text')}`),
    ),
    rowChart({
      width,
      label: `Share of attention of ${run.model}, ${words(run.setting)}`,
      rows: Object.keys(SEGMENTS).filter((name) => boxes.segments[name]),
      ends: [0, 1],
      right: 56,
      name: (name) => SEGMENTS[name],
      value: (name) => fixed(boxes.segments[name].median, 2),
      data: (name) => ({ 'data-segment': name, 'data-median': boxes.segments[name].median }),
      marks,
    }),
  ];
}

/** The share of each part of the text, a row a text. */
const boxRecords = (runs) =>
  runs.flatMap(({ model, dataset, setting, boxes }) =>
    boxes[STATE.source].items.map((item_id, at) => {
      const shares = valuesAt(boxes[STATE.source].segments, at);
      return { model, dataset, setting, source: STATE.source, item_id, ...shares };
    }),
  );

function drawBoxes(body, width) {
  const runs = DATA.attention.filter((run) => run.dataset === STATE.dataset && run.boxes[STATE.source]);
  const sources = ['answer', 'reasoning'].map((name) => [name, `${name} tokens`]);
  const controls = [picker('from', sources, 'source')];
  if (!runs.length) {
    return {
      controls,
      missing: `No attention from ${STATE.source} tokens on ${STATE.dataset} yet: dvc repro attention.`,
    };
  }
  const published = runs.some((run) => run.published) && STATE.source === 'answer';
  body.append(
    panels(
      width,
      runs.map((run) => (each) => boxPanel(run, run.boxes[STATE.source], each)),
    ),
    legend(
      [
        s('path', { d: 'M9 0V12', class: 'chance' }),
        'even reading: what attention spread evenly over all tokens so far, sinks too, puts on the reasoning',
      ],
      published && [diamond(9, 6), 'published median'],
    ),
  );
  return {
    controls,
    answer: runs
      .map((run) => run.answer[STATE.source])
      .filter(Boolean)
      .join(' '),
    caption:
      `Share of the attention of ${STATE.source} tokens by part of the text, on ${STATE.dataset}. A dot is one text; line and ` +
      'number: median. Without reasoning a short placeholder stands in its place.',
    csv: () => boxRecords(runs),
  };
}
