// What becomes of the answer when the reasoning is cut after each sentence, or changed.

const CUT_CURVES = {
  same: ['same answer', BLUE],
  p: ['p(answer)', ORANGE],
  score: ['right', PURPLE],
  made: ['same, with a mistake there and the rest written anew', VERMILION],
  none: ['same, with the rest written anew', GREEN],
};

function cutPanel(run, width) {
  const { curve, boundary } = run;
  const of = (part, end) => curve[part].map((one) => one[end]);
  return [
    h('h4', {}, 'reasoning cut after each sentence'),
    lineChart({
      width,
      label: 'Same answers, p(answer) and right answers by the share of sentences that stay',
      lines: Object.entries(CUT_CURVES)
        .filter(([part]) => curve[part])
        .map(([part, [label, colour]]) => ({
          ...{ name: part, at: curve.fraction, colour },
          ...{ mean: of(part, 'mean'), low: of(part, 'low'), high: of(part, 'high') },
          said: (step) => `${label} at ${show(curve.fraction[step], 2)}: ${show(curve[part][step].mean, 2)}`,
        })),
      ends: [0, 1],
      xEnds: [0, 1],
      xTicks: ticks(0, 1, 5),
      xTitle: 'share of the sentences that stay',
      yTitle: 'share or p',
      under: (x) =>
        boundary.places.map((place) =>
          s('line', { x1: x(place), x2: x(place), y1: 226, y2: 238, class: 'cross-line', 'data-boundary': place }),
        ),
    }),
  ];
}

const armName = ({ family, part, level }) =>
  DATA.change_labels[`${family} ${part}`.trim()] +
  (['number', 'option'].includes(family) ? `, ${fixed(100 * level, 0)}%` : '');

function armsPanel(arms, width) {
  return [
    h('h4', {}, 'same answer after a change'),
    rowChart({
      width,
      label: 'Share of answers that stay the same, by change of the reasoning',
      rows: arms,
      ends: [0, 1],
      format: (value) => show(value, 1),
      unit: 'share of the answers',
      name: armName,
      data: (one) => ({ 'data-arm': armName(one) }),
      marks: (one, x, y) => {
        const said = `${armName(one)}: ${withInterval(one.same, 2)}, n = ${one.n}`;
        const planted = { cx: x(one.took.mean), cy: y, r: 4, fill: 'none', stroke: ORANGE, 'stroke-width': 2 };
        return [intervalMark(x, y, one.same, BLUE, said), one.took.n > 0 && s('circle', planted)];
      },
    }),
  ];
}

function drawPerturb(body, width) {
  const run = chosenRun('perturb');
  if (!run)
    return { missing: `The traces of ${STATE.model} on ${STATE.dataset} have not been changed: dvc repro perturb.` };
  if (!run.curve) return { missing: 'No answer is the same after the unchanged reasoning.' };
  body.append(
    panels(width, [(each) => cutPanel(run, each), (each) => armsPanel(run.arms, each)]),
    legend(
      ...Object.entries(CUT_CURVES)
        .filter(([part]) => run.curve[part])
        .map(([, [label, colour]]) => [swatch(colour), label]),
      [
        s('circle', { cx: 9, cy: 6, r: 4, fill: 'none', stroke: ORANGE, 'stroke-width': 2 }),
        'the answer put in its place',
      ],
    ),
    itemLinks(Object.keys(run.items)),
  );
  return {
    answer: run.answer,
    words: run.sentences,
    caption:
      `${STATE.model} on ${STATE.dataset}: mean over ${counted(run.n_items - run.n_noise, 'trace')} with 95% intervals. ` +
      'Marks at the bottom: the boundary, where p(answer) rises most in each trace. The answer is forced. Wrong numbers, ' +
      'other options: of so many of them; answer named: another than the trace\u2019s, in the question, before or after the reasoning.',
    csv: () => {
      const own = { model: STATE.model, dataset: STATE.dataset };
      const cuts = Object.keys(CUT_CURVES)
        .filter((part) => run.curve[part])
        .flatMap((measure) =>
          run.curve[measure].map(({ mean, low, high }, step) => ({
            ...{ ...own, what: 'cut', x: run.curve.fraction[step], measure, mean, low, high },
          })),
        );
      const arms = run.arms.map((one) => ({ ...own, what: armName(one), measure: 'same', ...one.same }));
      return [...cuts, ...arms];
    },
  };
}
