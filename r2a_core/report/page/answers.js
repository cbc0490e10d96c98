// What was answered: the right answer, another option, a third thing or nothing, as one stacked bar a model and setting.

const NAMED = ['named_first', 'named_second'];

/** One bar of shares 0..1 of all responses. */
function answerShares({ counts, chance }, x, y) {
  let done = 0;
  const parts = Object.entries(DATA.answer_kinds).flatMap(([kind, { label, colour, light }]) => {
    const share = counts[kind] / Math.max(counts.n, 1);
    if (!share) return [];
    const box = { x: x(done), y: y - 9, width: x(done + share) - x(done), height: 18, fill: colour, class: 'part' };
    const middle = x(done + share / 2);
    done += share;
    const text = Number((100 * share).toPrecision(3));
    const said = s('title', {}, `${label}: ${counts[kind]} of ${counts.n}`);
    return [
      s('rect', { ...box, 'data-kind': kind, 'data-value': counts[kind] }, said),
      box.width > 30 && textAt(middle, y + 4, 'middle', text, light ? 'on-light' : 'on-dark'),
    ];
  });
  return [parts, chance !== null && s('path', { d: `M${x(chance)} ${y - 13}v26`, class: 'chance' })];
}

function answersChart(rows, width) {
  const placed = ({ counts }) => counts.named_first + counts.named_second;
  return rowChart({
    width,
    label: 'What was answered',
    rows,
    ends: [0, 1],
    format: (value) => `${fixed(100 * value, 0)}%`,
    name: ({ run, setting }) => `${caseName(run)}, ${words(setting)}`,
    value: (row) => [placed(row) ? `first of two: ${row.counts.named_first} of ${placed(row)}` : '', 'muted'],
    above: true,
    marks: answerShares,
  });
}

/** The kinds of answers that some row has, and guessing where it is known. */
function answersLegend(rows) {
  const kinds = Object.entries(DATA.answer_kinds).filter(([kind]) => rows.some(({ counts }) => counts[kind]));
  return legend(
    ...kinds.map(([, { label, colour }]) => [swatch(colour), label]),
    rows.some(({ chance }) => chance !== null) && [s('path', { d: 'M9 0V12', class: 'chance' }), 'guessing'],
  );
}

function drawAnswers(body, width) {
  const graded = DATA.evaluation.filter((run) => Object.keys(run.summary.answers).length);
  if (!graded.length) return { missing: 'No answers are graded yet: dvc repro evaluate.' };
  const rows = graded.flatMap((run) =>
    Object.entries(run.summary.answers).map(([setting, counts]) => {
      const { chance } = run.summary;
      return { run, setting, counts, chance };
    }),
  );
  body.append(answersChart(rows, width), answersLegend(rows));
  return {
    answer: chosenRun('evaluation')?.answered,
    words: graded.map((run) => run.answered).filter(Boolean),
    caption:
      `${casesSaid(graded, (run) => Object.values(run.summary.answers)[0].n)}: shares of all first attempts. ` +
      'First of two: of answers that name one of two options, those that name the first.',
    csv: () =>
      rows.map(({ run: { model, dataset }, setting, counts, chance }) => ({
        ...{ model, dataset, setting, chance },
        ...picked(counts, ['n', ...Object.keys(DATA.answer_kinds), ...NAMED]),
      })),
  };
}
