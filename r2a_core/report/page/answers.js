// What was answered: the right answer, another option, a third thing or nothing, as one stacked bar a model and setting.

const answersFigure = () =>
  figure({ id: 'answers', title: 'What was answered, with and without reasoning', keys: [] }, drawAnswers);

const NAMED = ['named_first', 'named_second'];

/** One bar of shares 0..1 of all responses, with what it is called above it. */
function answersRow(run, setting, x, wide) {
  const counts = run.summary.answers[setting];
  const group = s('g', {});
  const numbers = [];
  let done = 0;
  for (const [kind, { label, colour, light }] of Object.entries(DATA.answer_kinds)) {
    const share = counts[kind] / Math.max(counts.n, 1);
    if (!share) continue;
    const said = `${label}: ${counts[kind]} of ${counts.n}`;
    const box = { x: x(done), y: 22, width: x(done + share) - x(done), height: 19, fill: colour, class: 'part' };
    group.append(s('rect', { ...box, 'data-kind': kind, 'data-value': counts[kind] }, s('title', {}, said)));
    if (box.width > 30) {
      const text = Number((100 * share).toPrecision(3));
      numbers.push(textAt(x(done + share / 2), 36, 'middle', text, light ? 'on-light' : 'on-dark'));
    }
    done += share;
  }
  if (run.summary.chance !== null) {
    group.append(s('path', { d: `M${x(run.summary.chance)} 18V45`, class: 'chance' }));
  }
  group.append(...numbers);
  const named = counts.named_first + counts.named_second;
  const name = `${run.model}, ${setting.replace('_reasoning', '')}`;
  group.append(s('text', { x: x(0), y: 15 }, s('tspan', { class: 'strong' }, name)));
  if (named) group.append(textAt(wide, 15, 'end', `first of two: ${counts.named_first} of ${named}`, 'muted'));
  return group;
}

function drawAnswers(body, width) {
  const graded = DATA.evaluation.filter((run) => Object.keys(run.summary.answers).length);
  if (!graded.length) return { missing: 'No answers are graded yet: dvc repro evaluate.' };
  const names = [...new Set(graded.map((run) => run.dataset))];
  const each = names.length > 1 && width > 760 ? (width - 28) / 2 : width;
  const x = linear(0, 1, 8, each - 8);
  const panels = names.map((name) => {
    const runs = graded.filter((run) => run.dataset === name);
    const bars = runs.flatMap((run) => Object.keys(run.summary.answers).map((setting) => [run, setting]));
    const sizes = [...new Set(bars.map(([run, setting]) => run.summary.answers[setting].n))];
    const bottom = 50 * bars.length;
    return panel(
      each,
      h('h4', {}, `${name}, n = ${sizes.join(', ')}`),
      picture(
        each,
        bottom + 22,
        `What was answered on ${name}`,
        xAxis(x, [0, 0.25, 0.5, 0.75, 1], 20, bottom, (v) => `${100 * v}%`),
        bars.map(([run, setting], at) =>
          fill(answersRow(run, setting, x, each - 8), { transform: `translate(0 ${50 * at})` }, []),
        ),
      ),
    );
  });
  const kinds = Object.entries(DATA.answer_kinds).filter(([kind]) =>
    graded.some((run) => Object.values(run.summary.answers).some((counts) => counts[kind])),
  );
  body.append(
    h('div', { class: 'panels' }, panels),
    legend(
      ...kinds.map(([, { label, colour }]) => [swatch(colour), label]),
      graded.some((run) => run.summary.chance !== null) && [
        s('path', { d: 'M9 0V12', class: 'chance' }),
        'guessing',
      ],
    ),
  );
  const columns = ['n', ...Object.keys(DATA.answer_kinds), ...NAMED];
  return {
    caption:
      'Shares of all responses, first attempts, invalid ones included. An answer names an option where the grader finds ' +
      'them equal. First of two: answers that name the first of two options, of those that name one, right or wrong.',
    csv: () => [
      ['model', 'dataset', 'setting', 'chance', ...columns],
      ...graded.flatMap((run) =>
        Object.entries(run.summary.answers).map(([setting, counts]) => [
          run.model,
          run.dataset,
          setting,
          run.summary.chance,
          ...columns.map((name) => counts[name]),
        ]),
      ),
    ],
  };
}
