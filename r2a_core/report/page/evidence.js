// One item with all its evidence: question, both texts, verdicts, and what attention, knock-outs and changes say of it.

function chosenItem(run, columns, texts, width) {
  const at = columns.item_id.indexOf(STATE.item);
  if (at < 0) return h('p', { class: 'note' }, 'No item is chosen.');
  const found = texts[at] ?? {};
  const side = ([setting, name]) =>
    h(
      'article',
      { 'data-setting': setting },
      h('h4', {}, `${name} reasoning `, verdict(run, at, setting)),
      h('div', { class: 'text', dir: 'auto', tabindex: 0 }, visible((found[setting] ?? 'not in this page').trim())),
    );
  const concludes = columns.concludes[at];
  return h(
    'div',
    { class: 'pair', id: 'evidence' },
    h(
      'div',
      { class: 'question' },
      h('h4', {}, `Question ${visible(STATE.item)}`),
      h('div', { class: 'text', dir: 'auto' }, visible(columns.question[at] ?? 'not here')),
      concludes !== null &&
        h(
          'p',
          { class: columns.differs[at] ? 'differs' : 'note' },
          `The reasoning names ${visible(concludes)} last` +
            (columns.differs[at] ? ', perhaps in a check; the answer is another.' : ', and so does the answer.'),
        ),
      h('p', {}, evidenceLinks(STATE.item)),
    ),
    RUN_SIDES.map(side),
    h('div', { class: 'question' }, panels(width, [...cutsOf(STATE.item), ...changesOf(STATE.item)])),
  );
}

function evidenceLinks(id) {
  const found = evidenceOf(id);
  if (!found.length) return 'Nothing else was measured on this question.';
  return [
    'More on it: ',
    found.map(([name, anchor, , choices], at) => [at ? ', ' : '', linkTo(anchor, name, choices)]),
    '.',
  ];
}

/** Links to items, and back from a figure to the evidence of one. */
function itemLinks(ids) {
  const link = (id) => button(visible(id), () => openItem(id), { 'data-key': `go-${id}` });
  return h(
    'p',
    { class: 'note links' },
    'Its questions, with all their evidence: ',
    ids.slice(0, 12).map((id, at) => [at ? ', ' : '', link(id)]),
  );
}

async function openItem(id, dataset = STATE.dataset) {
  await choose({ dataset, item: id, show: 'all', find: '' });
  goTo('evidence');
}

/** What each set of heads costs this item, where any was cut. */
function cutsOf(id) {
  const sets = chosenRun('knockout')?.items[id];
  if (!sets) return [];
  return [
    (width) => [
      h('h4', {}, 'knock-out: what this answer loses'),
      lossChart({
        width,
        label: 'Loss of the answer by set of heads',
        rows: sets,
        losses: sets.map((one) => one.loss),
        data: (one) => ({ 'data-loss': one.loss }),
        marks: (one, x, y) => {
          const written =
            one.changed === null ? '' : one.changed ? '; written anew, it changes' : '; written anew, it stays';
          const said = s('title', {}, `${one.set} ${one.k}, ${words(one.kind)}: ${show(one.loss)}${written}`);
          return s(
            'circle',
            { cx: x(one.loss), cy: y, r: 4, fill: one.changed ? VERMILION : DATA.cut_colours[one.kind] },
            said,
          );
        },
      }),
      sets.some((one) => one.changed) && legend([swatch(VERMILION), 'written anew, the answer changes']),
    ],
  ];
}

/** The answer's probability as this item's reasoning is cut, and its answers after other changes. */
function changesOf(id) {
  const found = chosenRun('perturb')?.items[id];
  if (!found) return [];
  const { fraction, p, same, boundary, arms } = found;
  const said = (step) =>
    `${show(100 * fraction[step], 0)}% stay: p = ${show(p[step], 2)}${same[step] === 0 ? ', another answer' : ''}`;
  return [
    (width) => [
      h('h4', {}, 'its reasoning cut after each sentence'),
      cutChart({
        width,
        label: 'Probability of the answer by the share of sentences that stay',
        lines: [{ name: 'p', at: fraction, mean: p, colour: ORANGE, said }],
        yTitle: 'p(answer)',
        under: (x, y) => crossLine(x(boundary), y(1), x(boundary), y(0)),
        tall: 180,
      }),
      h('p', { class: 'note' }, 'Dashed: the boundary, after which the answer becomes likely.'),
      arms.length > 0 &&
        fold(
          'Its answer after other changes',
          table([['change'], ['what for what'], ['answer'], ['same']], arms.map(armRow)),
        ),
    ],
  ];
}

const armRow = (one) => [
  ...[one.label, visible(one.change), visible(one.answer ?? '\u2013')],
  one.same === null ? 'open' : one.same === 1 ? 'yes' : 'no',
];
