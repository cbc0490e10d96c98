// What becomes of the answer when the reasoning is cut after each sentence, or changed.

const MISTAKE_ASIDE = { made: -3, none: 3 }; // of two marks at one place

/** The looks of what a run has of the curves of cuts and the points of mistakes: [part, look]. */
const drawnOf = ({ curve }) => Object.entries({ ...DATA.cut_curves, ...DATA.mistakes }).filter(([part]) => curve[part]);

/** Answers after a mistake, where in the reasoning it was made; those without one beside. */
function mistakePoints(curve, x, y) {
  return Object.entries(DATA.mistakes).flatMap(([part, { label, colour }]) =>
    (curve[part] ?? []).map((one) => {
      const at = x(one.place) + MISTAKE_ASIDE[part];
      const said = `${label} at ${show(one.place, 2)}: ${withInterval(one, 2)}, n = ${one.n}`;
      return [
        one.low !== null && s('line', { x1: at, x2: at, y1: y(one.low), y2: y(one.high), stroke: colour }),
        s('circle', { cx: at, cy: y(one.mean), r: 4, fill: colour, 'data-mistake': part }, s('title', {}, said)),
      ];
    }),
  );
}

function cutPanel(run, width) {
  const { curve, boundary } = run;
  const of = (part, end) => curve[part].map((one) => one[end]);
  return [
    h('h4', {}, 'reasoning cut after each sentence'),
    cutChart({
      width,
      label: 'Same answers, p(answer) and right answers by the share of sentences that stay',
      lines: Object.entries(DATA.cut_curves)
        .filter(([part]) => curve[part])
        .map(([part, { label, colour }]) => ({
          ...{ name: part, at: curve.fraction, colour },
          ...{ mean: of(part, 'mean'), ...(part === 'same' && { low: of(part, 'low'), high: of(part, 'high') }) },
          said: (step) => `${label} at ${show(curve.fraction[step], 2)}: ${withInterval(curve[part][step], 2)}`,
        })),
      xTitle: 'share of the sentences that stay, or up to the mistake',
      yTitle: 'share or p',
      under: (x, y) => [
        boundary.places.map((place) => crossLine(x(place), 226, x(place), 238, { 'data-boundary': place })),
        mistakePoints(curve, x, y),
      ],
    }),
  ];
}

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
      name: (one) => one.label,
      data: (one) => ({ 'data-arm': one.label }),
      marks: (one, x, y) => {
        const said = `${one.label}: ${withInterval(one.same, 2)}, n = ${one.same.n}`;
        const planted = { cx: x(one.took.mean), cy: y, r: 4, fill: 'none', stroke: ORANGE, 'stroke-width': 2 };
        return [intervalMark(x, y, one.same, BLUE, said), one.took.n > 0 && s('circle', planted)];
      },
    }),
  ];
}

function changesLegend(run) {
  const planted = { cx: 9, cy: 6, r: 4, fill: 'none', stroke: ORANGE, 'stroke-width': 2 };
  return legend(...drawnOf(run).map(([, { label, colour }]) => [swatch(colour), label]), [
    s('circle', planted),
    'the answer put in its place',
  ]);
}

/** The numbers of both panels, as rows of a table. */
function changesRecords(run) {
  const own = { model: STATE.model, dataset: STATE.dataset };
  const cuts = drawnOf(run).flatMap(([measure]) =>
    run.curve[measure].map(({ place, mean, low, high }, step) => ({
      ...{ ...own, what: place === undefined ? 'cut' : 'mistake', x: place ?? run.curve.fraction[step] },
      ...{ measure, mean, low, high },
    })),
  );
  const arms = run.arms.map((one) => ({ ...own, what: one.label, measure: 'same', ...one.same }));
  return [...cuts, ...arms];
}

function drawPerturb(body, width) {
  const run = chosenRun('perturb');
  if (!run)
    return { missing: `The traces of ${STATE.model} on ${STATE.dataset} have not been changed: dvc repro perturb.` };
  if (!run.curve) return { missing: 'No answer is the same after the unchanged reasoning.' };
  body.append(
    panels(width, [(each) => cutPanel(run, each), (each) => armsPanel(run.arms, each)]),
    changesLegend(run),
    itemLinks(Object.keys(run.items)),
  );
  return {
    answer: run.answer,
    words: run.sentences,
    caption:
      `${STATE.model} on ${STATE.dataset}: mean over ${counted(run.n_items - run.n_noise, 'trace')}; band and bars: 95% intervals. ` +
      'Marks at the bottom: the boundary, where p(answer) rises most, in each trace whose answer some cut changes. ' +
      'The answer is forced. Wrong numbers, other options: of so many of them, and of how many in each trace; answer ' +
      'named: another than the trace\u2019s, in the question, before or after the reasoning.',
    csv: () => changesRecords(run),
  };
}
