// What becomes of the answer when the reasoning is cut after each sentence, or changed.

const CUT_CURVES = { same: ['same answer', BLUE], p: ['p(answer)', ORANGE], score: ['right', PURPLE] };

function cutPanel(run, width) {
  const { curve, boundary } = run;
  const [x, y] = [linear(0, 1, 44, width - 14), linear(0, 1, 232, 12)];
  const at = (part, end) => curve[part].map((one, step) => `${x(curve.fraction[step])} ${y(one[end])}`);
  return panel(
    width,
    h('h4', {}, 'reasoning cut after each sentence'),
    picture(
      width,
      272,
      'Same answers, p(answer) and right answers by the share of sentences that stay',
      yAxis(y, ticks(0, 1, 5), 44, width - 14, (value) => show(value, 1)),
      xAxis(x, ticks(0, 1, 5), 12, 232, (value) => show(value, 1), false),
      Object.entries(CUT_CURVES)
        .filter(([part]) => curve[part])
        .map(([part, [label, colour]]) =>
          s(
            'g',
            { 'data-curve': part },
            s('path', {
              d: `M${at(part, 'high').join('L')}L${at(part, 'low').reverse().join('L')}Z`,
              fill: colour,
              'fill-opacity': 0.14,
            }),
            s('path', { d: `M${at(part, 'mean').join('L')}`, fill: 'none', stroke: colour, 'stroke-width': 2 }),
            curve[part].map((one, step) =>
              s(
                'circle',
                { cx: x(curve.fraction[step]), cy: y(one.mean), r: 2.2, fill: colour },
                s('title', {}, `${label} at ${show(curve.fraction[step], 2)}: ${show(one.mean, 2)}`),
              ),
            ),
          ),
        ),
      boundary.places.map((place) =>
        s('line', { x1: x(place), x2: x(place), y1: 226, y2: 238, class: 'cross-line', 'data-boundary': place }),
      ),
      axisTitle((width + 32) / 2, 266, 'share of the sentences that stay'),
    ),
  );
}

const armName = ({ family, part, level }) =>
  family === 'cut'
    ? 'no reasoning'
    : [family, part, ['number', 'option'].includes(family) ? `${Math.round(100 * level)}%` : ''].filter(Boolean).join(' ');

function armsPanel(arms, width) {
  const [left, bottom] = [138, 14 + 20 * arms.length];
  const x = linear(0, 1, left, width - 14);
  return panel(
    width,
    h('h4', {}, 'same answer after a change'),
    picture(
      width,
      bottom + 40,
      'Share of answers that stay the same, by change of the reasoning',
      xAxis(x, ticks(0, 1, 5), 8, bottom, (value) => show(value, 1)),
      arms.map((one, at) => {
        const [y, { mean, low, high }] = [20 + 20 * at, one.same];
        const said = `${armName(one)}: ${show(mean, 2)} (95% ${show(low, 2)} to ${show(high, 2)}), n = ${one.n}`;
        return s(
          'g',
          { 'data-arm': armName(one) },
          textAt(left - 8, y + 4, 'end', armName(one)),
          s('line', { x1: x(low), x2: x(high), y1: y, y2: y, stroke: BLUE, 'stroke-width': 2 }),
          s('circle', { cx: x(mean), cy: y, r: 4, fill: BLUE }, s('title', {}, said)),
          one.took.n
            ? s('circle', { cx: x(one.took.mean), cy: y, r: 4, fill: 'none', stroke: ORANGE, 'stroke-width': 2 })
            : null,
        );
      }),
      axisTitle((left + width) / 2, bottom + 34, 'share of the answers'),
    ),
  );
}

const perturbFigure = () =>
  figure({ id: 'changes', title: 'The answer after changed reasoning', keys: [] }, drawPerturb);

function drawPerturb(body, width) {
  const run = findRecord('perturb', { model: STATE.model, dataset: STATE.dataset });
  if (!run) return { missing: `The traces of ${STATE.model} on ${STATE.dataset} have not been changed: dvc repro perturb.` };
  body.append(...run.sentences.map((text) => h('p', {}, text)));
  if (!run.curve) return { missing: 'No answer is the same after the unchanged reasoning.' };
  const each = width > 720 ? (width - 28) / 2 : width;
  body.append(
    h('div', { class: 'panels' }, cutPanel(run, each), armsPanel(run.arms, each)),
    legend(
      ...Object.entries(CUT_CURVES)
        .filter(([part]) => run.curve[part])
        .map(([, [label, colour]]) => [swatch(colour), label]),
      [s('circle', { cx: 9, cy: 6, r: 4, fill: 'none', stroke: ORANGE, 'stroke-width': 2 }), 'the answer put in its place'],
    ),
  );
  return {
    caption:
      `${STATE.model} on ${STATE.dataset}: mean over ${counted(run.n_items - run.n_noise, 'trace')} with 95% intervals. ` +
      'Marks at the bottom: where p(answer) rises most in each trace. The answer is forced.',
    csv: () => [
      ['model', 'dataset', 'what', 'x', 'measure', 'mean', 'low', 'high'],
      ...Object.keys(CUT_CURVES)
        .filter((part) => run.curve[part])
        .flatMap((part) =>
          run.curve[part].map((one, step) => [
            ...[STATE.model, STATE.dataset, 'cut', run.curve.fraction[step], part],
            ...[one.mean, one.low, one.high],
          ]),
        ),
      ...run.arms.map((one) => [
        ...[STATE.model, STATE.dataset, armName(one), null, 'same'],
        ...[one.same.mean, one.same.low, one.same.high],
      ]),
    ],
  };
}
