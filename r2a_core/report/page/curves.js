// Figure 8: mean share of the logit difference that patching restores, by layer, with bands over pairs.

const curveLook = (name) => DATA.curves[name] ?? { label: name, colour: SKY, dash: [] };
const dashOf = (look) => (look.dash.length ? look.dash.join(' ') : null);
const PROBES = { plain: 'plain probe: Final answer is A.', boxed: 'boxed probe: Final answer is \\boxed{A}.' };

function curveShapes(curve, x, y) {
  const look = curveLook(curve.curve);
  const [colour, dash] = [look.colour, dashOf(look)];
  const line = curve.layer.map((layer, at) => `${x(layer).toFixed(1)} ${y(curve.mean[at]).toFixed(1)}`).join('L');
  const edge = (sign) =>
    curve.layer.map(
      (layer, at) => `${x(layer).toFixed(1)} ${y(curve.mean[at] + sign * (curve.sd[at] ?? 0)).toFixed(1)}`,
    );
  return s(
    'g',
    { 'data-curve': curve.curve },
    !dash && curve.sd.some((sd) => sd)
      ? s('path', { d: `M${edge(1).join('L')}L${edge(-1).reverse().join('L')}Z`, fill: colour, 'fill-opacity': 0.16 })
      : null,
    s('path', {
      d: `M${line}`,
      fill: 'none',
      stroke: colour,
      'stroke-width': dash ? 1.4 : 2.2,
      'stroke-dasharray': dash,
    }),
    dash
      ? null
      : curve.layer.map((layer, at) =>
          s(
            'circle',
            { cx: x(layer), cy: y(curve.mean[at]), r: 2.6, fill: colour },
            s(
              'title',
              {},
              `${look.label}, layer ${layer}: ${show(curve.mean[at])} \u00b1 ${show(curve.sd[at])}`,
            ),
          ),
        ),
  );
}

function curvePanel(run, probe, width) {
  const curves = run.curves.filter((one) => one.probe === probe);
  const crossing = run.crossings.find((one) => one.probe === probe);
  const layers = Math.max(...curves.flatMap((one) => one.layer));
  const ends = curves.flatMap((one) =>
    one.mean.flatMap((mean, at) =>
      dashOf(curveLook(one.curve)) ? [mean] : [mean - (one.sd[at] ?? 0), mean + (one.sd[at] ?? 0)],
    ),
  );
  const low = Math.min(-0.05, ...ends);
  const high = Math.max(1.05, ...ends);
  const x = linear(0, Math.max(layers, 1), 44, width - 12);
  const y = linear(low, high, 232, 12);
  const pairs = Math.max(...curves.flatMap((one) => one.n_pairs));
  const cross =
    crossing && crossing.layer !== null
      ? s(
          'g',
          { class: 'crossing' },
          crossing.low !== null
            ? s('rect', {
                x: x(crossing.low),
                y: 12,
                width: x(crossing.high) - x(crossing.low),
                height: 220,
              })
            : null,
          s('line', { x1: x(crossing.layer), x2: x(crossing.layer), y1: 12, y2: 232 }),
        )
      : null;
  const said = !crossing
    ? ''
    : crossing.layer === null
      ? 'the curves do not cross'
      : `cross at layer ${show(crossing.layer, 1)}` +
        (crossing.low === null
          ? ''
          : ` (${100 * crossing.confidence}%: between layers ${crossing.low} and ${crossing.high})`);
  return panel(
    width,
    h('h4', {}, PROBES[probe] ?? probe, h('span', { class: 'muted' }, `n = ${counted(pairs, 'pair')}; ${said}`)),
    picture(
      width,
      272,
      `Restored logit difference by layer, ${probe} probe`,
      yAxis(y, ticks(low, high, 6), 44, width - 12, (v) => show(v, 1)),
      xAxis(x, wholeTicks(0, layers), 12, 232, String, false),
      cross,
      curves.map((one) => curveShapes(one, x, y)),
      axisTitle((width + 32) / 2, 266, 'layer whose input is patched'),
      axisTitle(11, 122, 'NLD', false),
    ),
  );
}

const curvesFigure = () => figure({ id: 'curves', title: 'What a patch restores, by layer', keys: [] }, drawCurves);

function drawCurves(body, width) {
  const run = findRecord('patching', { model: STATE.model });
  if (!run || !run.curves.length) return { missing: `${STATE.model} has not been patched yet: dvc repro patch.` };
  const each = run.probes.length > 1 && width > 720 ? (width - 28) / 2 : width;
  const drawn = [...new Set(run.curves.map((one) => one.curve))].sort(
    (a, b) => Object.keys(DATA.curves).indexOf(a) - Object.keys(DATA.curves).indexOf(b),
  );
  body.append(
    h(
      'div',
      { class: 'panels' },
      run.probes.map((probe) => curvePanel(run, probe, each)),
    ),
    legend(
      ...drawn.map((name) => [
        s('path', {
          d: 'M0 6H18',
          stroke: curveLook(name).colour,
          'stroke-width': 2,
          'stroke-dasharray': dashOf(curveLook(name)),
        }),
        curveLook(name).label,
      ]),
      run.crossings.some((one) => one.layer !== null) && [
        s('path', { d: 'M9 0V12', class: 'cross-line' }),
        'crossing, and the layers between which resampled pairs cross',
      ],
    ),
  );
  return {
    caption:
      `${STATE.model}: the residual stream that enters a layer is replaced at one position by that of the clean run. ` +
      'NLD: share of the logit difference restored (0 = corrupted run, 1 = clean run); mean over pairs, ' +
      'bands \u00b1 one standard deviation.',
    csv: () => [
      ['model', 'probe', 'curve', 'layer', 'mean', 'sd', 'n_pairs'],
      ...run.curves.flatMap((one) =>
        one.layer.map((layer, at) => [
          STATE.model,
          one.probe,
          one.curve,
          layer,
          one.mean[at],
          one.sd[at],
          one.n_pairs[at],
        ]),
      ),
    ],
  };
}
