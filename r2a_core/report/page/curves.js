// Figure 8: mean share of the logit difference that patching restores, by layer, with bands over pairs.

const curveLook = (name) => DATA.curves[name] ?? { label: name, colour: SKY, dash: [] };
const dashOf = (look) => (look.dash.length ? look.dash.join(' ') : null);
const PROBES = {
  plain: 'closing sentence \u201cFinal answer is A.\u201d (plain)',
  boxed: 'closing sentence \u201cFinal answer is \\boxed{A}.\u201d (boxed)',
};

function curveLine(curve) {
  const look = curveLook(curve.curve);
  const edge = (sign) => curve.mean.map((mean, at) => mean + sign * (curve.sd[at] ?? 0));
  return {
    name: curve.curve,
    at: curve.layer,
    mean: curve.mean,
    ...(dashOf(look) ? {} : { low: edge(-1), high: edge(1) }),
    colour: look.colour,
    dash: dashOf(look),
    said: (at) => `${look.label}, layer ${curve.layer[at]}: ${show(curve.mean[at])} \u00b1 ${show(curve.sd[at])}`,
  };
}

const NO_CROSSING = { layer: null };

function crossingWords({ layer, low, high, confidence } = NO_CROSSING) {
  if (layer === null) return 'the curves do not cross';
  const where =
    low === null ? `at layer ${show(layer, 1)}` : `between layers ${low} and ${high} (${100 * confidence}%)`;
  return `the curves cross ${where}`;
}

function crossingMark({ layer, low, high } = NO_CROSSING, x) {
  if (layer === null) return null;
  const between = low !== null && s('rect', { x: x(low), y: 12, width: x(high) - x(low), height: 220 });
  return s('g', { class: 'crossing' }, between, s('line', { x1: x(layer), x2: x(layer), y1: 12, y2: 232 }));
}

function curvePanel(run, probe, width) {
  const curves = run.curves.filter((one) => one.probe === probe);
  const crossing = run.crossings.find((one) => one.probe === probe);
  const reach = run.curves.map(curveLine).flatMap(({ mean, low = [], high = [] }) => [...mean, ...low, ...high]);
  const layers = Math.max(...curves.flatMap((one) => one.layer));
  const pairs = Math.max(...curves.flatMap((one) => one.n_pairs));
  const said = `n = ${counted(pairs, 'pair')}; ${crossingWords(crossing)}`;
  return [
    h('h4', {}, PROBES[probe] ?? probe, h('span', { class: 'muted' }, said)),
    lineChart({
      width,
      label: `How far an exchange moves the answer, by layer, ${probe} probe`,
      lines: curves.map(curveLine),
      ends: [Math.min(-0.05, ...reach), Math.max(1.05, ...reach)],
      xEnds: [0, Math.max(layers, 1)],
      xTicks: wholeTicks(0, layers),
      xTitle: DATA.exchange_axes.across,
      yTitle: DATA.exchange_axes.up,
      under: (x) => crossingMark(crossing, x),
    }),
  ];
}

function drawCurves(body, width) {
  const run = findRecord('patching', { model: STATE.model });
  if (!run || !run.curves.length) return { missing: `${STATE.model} has not been patched yet: dvc repro patch.` };
  const drawn = [...new Set(run.curves.map((one) => one.curve))].sort(
    (a, b) => Object.keys(DATA.curves).indexOf(a) - Object.keys(DATA.curves).indexOf(b),
  );
  body.append(
    panels(
      width,
      run.probes.map((probe) => (each) => curvePanel(run, probe, each)),
    ),
    legend(
      ...drawn.map(curveLook).map((look) => {
        const line = { d: 'M0 6H18', stroke: look.colour, 'stroke-width': 2, 'stroke-dasharray': dashOf(look) };
        return [s('path', line), look.label];
      }),
      run.crossings.some((one) => one.layer !== null) && [
        s('path', { d: 'M9 0V12', class: 'cross-line' }),
        'crossing, and the layers between which resampled pairs cross',
      ],
    ),
  );
  return {
    answer: run.answer,
    caption:
      `${STATE.model}: the closing sentence is added to the reasoning of both questions. At one position, what enters a layer is taken from the run on the other question. 0: nothing moves, 1: the ` +
      'whole way to the other answer; mean over pairs, bands \u00b1 one standard deviation.',
    csv: () =>
      run.curves.flatMap(({ probe, curve, layer, mean, sd, n_pairs }) =>
        rowsOf({ layer, mean, sd, n_pairs }).map((row) => ({ model: STATE.model, probe, curve, ...row })),
      ),
  };
}
