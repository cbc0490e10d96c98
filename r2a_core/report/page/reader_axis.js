// Above the strip of a trace, on its axis: p(answer) where the reasoning is cut, its boundary, reflection phrases, and
// where the answer looks on the mean.

/** p(answer) after each forced prefix, by token; null where the trace was not cut at the sentences that the page has. */
function cutsAlong(trace) {
  const found = chosenRun('perturb')?.items[trace.item_id];
  const ends = trace.sentences?.end;
  if (!found || !ends?.length) return null;
  const count = ends.length;
  if (found.n_sentences !== count) return null;
  const kept = [...found.fraction, found.boundary].map((share) => Math.round(share * count));
  const tokens = kept.map((one) => (one ? ends[one - 1] : trace.think_open + 1));
  const cuts = found.p.map((p, at) => ({ p, token: tokens[at], kept: kept[at], same: found.same[at] === 1 }));
  return { cuts, count, boundary: tokens.at(-1) };
}

function answerCurve({ cuts, count, boundary }, x, y, width) {
  const points = cuts.map(({ token, p }) => `${x(token).toFixed(1)} ${y(p).toFixed(1)}`);
  const said = ({ kept, p, same }) =>
    `${kept} of ${counted(count, 'sentence')}: p = ${show(p, 2)}${same ? '' : ', another answer'}`;
  const dot = (one) => s('circle', { cx: x(one.token), cy: y(one.p), r: 2.6, fill: ORANGE, 'data-p': one.p });
  return s(
    'g',
    { 'data-curve': 'p(answer)' },
    [0, 1].map((p) => [
      s('line', { x1: 0, x2: width, y1: y(p), y2: y(p), class: 'rule' }),
      textAt(2, y(p) + (p ? 11 : -3), 'start', `p = ${p}`),
    ]),
    crossLine(x(boundary), y(1), x(boundary), y(0), { 'data-boundary': boundary }),
    s('path', { d: `M${points.join('L')}`, fill: 'none', stroke: ORANGE, 'stroke-width': 2 }),
    cuts.map((one) => fill(dot(one), {}, [s('title', {}, said(one))])),
  );
}

/** Where a view looks: centroid and spread of the answer's attention on the reasoning. */
function lookMark(trace, look, x, y) {
  const place = (share) => x(trace.think_open + 1 + share * (trace.think_close - trace.think_open - 1));
  const [low, high] = [look.centroid - look.spread, look.centroid + look.spread].map((one) =>
    Math.min(Math.max(one, 0), 1),
  );
  return s(
    'g',
    { 'data-centroid': look.centroid },
    s('line', { x1: place(low), x2: place(high), y1: y, y2: y, stroke: BLUE, 'stroke-width': 2 }),
    diamond(place(look.centroid), y, 5, { fill: BLUE }),
  );
}

function traceAxis(trace, at, width, strip) {
  const [cuts, look] = [cutsAlong(trace), trace.looks[at]];
  const x = alongTrace(trace, width);
  const tall = cuts ? 74 : 14;
  const told = [
    cuts && `p(answer) where the reasoning is cut, boundary at token ${cuts.boundary}`,
    look && `centroid at ${show(100 * look.centroid, 0)}% of the reasoning`,
    `${counted(trace.reflection.length, 'reflection phrase')}`,
  ];
  return [
    picture(
      width,
      tall + 14,
      `On the axis of the strip: ${told.filter(Boolean).join('; ')}`,
      s('g', { class: 'axis' }, cuts && answerCurve(cuts, x, linear(0, 1, tall - 6, 14), width)),
      trace.marks.map((token) => reflectionTick(x(token), 2)),
      look && lookMark(trace, look, x, tall + 6),
    ),
    strip,
    legend(
      cuts && [s('path', { d: 'M1 6H17', stroke: ORANGE, 'stroke-width': 2 }), 'p(answer) where the reasoning is cut'],
      cuts && [s('path', { d: 'M9 0V12', class: 'cross-line' }), 'boundary: after its largest rise'],
      look && [
        diamond(9, 6, 5, { fill: BLUE }),
        'centroid of the answer\u2019s attention on the reasoning, \u00b1 its spread',
      ],
      trace.marks.length > 0 && [reflectionTick(9, 2), 'reflection phrase'],
    ),
    !cuts &&
      h(
        'p',
        { class: 'note' },
        'Where this answer becomes likely is not known: this trace was not cut, or not at the sentences that the page has.',
      ),
  ];
}
