// Every item with its outcome: sorted, filtered, searched and by pages; below it all evidence of the one that is chosen.

const OUTCOMES = {
  all: 'all items',
  ...(RUN_SIDES.length > 1 && {
    win: 'win: better with reasoning',
    tie: 'tie',
    loss: 'loss: better without',
    unpaired: 'not valid in both',
  }),
  differs: 'answer is not what its reasoning names last',
  evidence: 'with more evidence',
};
const STATUSES = { ok: 'valid', unfinished: 'not finished', bad_think: 'think format', no_answer: 'no answer' };
const ROWS_AT_ONCE = 50;
const COLUMNS = {
  item_id: 'item',
  question: 'question',
  gold: 'reference',
  ...Object.fromEntries(RUN_SIDES.map(([setting]) => [`score_${setting}`, words(setting)])),
  concludes: 'the reasoning names last',
  ...(RUN_SIDES.length > 1 && { outcome: 'outcome' }),
};

declare(
  'show',
  'all',
  oneOf(() => Object.keys(OUTCOMES)),
  ['page'],
);
declare('find', '', anyText, ['page']);
declare('sort', '', (value) => Object.hasOwn(COLUMNS, value.replace(/^-/, '')));
declare('page', '0', async (value) => within(value, [pagesOf(await listedItems())]));
declare('item', '', (id) => itemsHere().includes(id), ['token', 'line']);

/** The items of the chosen model and dataset, or where these are not evaluated those with a trace. */
const itemsHere = () => chosenRun('evaluation')?.items.item_id ?? tracesHere().map((one) => one.item_id);

/** The parts of the page that hold more on an item: name, anchor, and what is to be chosen there. */
function evidenceOf(id) {
  return [
    ['attention', 'reader', chosenRun('traces')?.items.some((one) => one.item_id === id)],
    ['knock-out', 'cuts', chosenRun('knockout')?.items[id]],
    ['changes', 'changes', chosenRun('perturb')?.items[id]],
    ['hidden sentences', 'hidden', chosenRun('sentences')?.points.item_id.includes(id)],
    ['exchanges', 'cells', pairOf(id), { pair: pairOf(id) }],
  ].filter(([, , there]) => there);
}

/** The texts of the items that the page carries, by row: of all where they are searched, else of the chosen one. */
async function textsOf(run, only = null) {
  const packed = run.texts.filter(({ row }) => only === null || row === only);
  const found = await Promise.all(packed.map(packedJson));
  return Object.fromEntries(packed.map(({ row }, at) => [row, found[at]]));
}

/** The rows to list, in order. columns: the item table with the questions; texts: by row. */
function itemRows(columns, texts) {
  const find = STATE.find.toLowerCase();
  const shown = {
    all: () => true,
    differs: (at) => columns.differs[at],
    evidence: (at) => evidenceOf(columns.item_id[at]).length,
  };
  const kept = shown[STATE.show] ?? ((at) => columns.outcome[at] === STATE.show);
  const said = (at) => [
    ...['item_id', 'question', 'gold', 'concludes', ...SIDES.map(([setting]) => `extracted_${setting}`)].map(
      (name) => columns[name][at],
    ),
    ...Object.values(texts[at] ?? {}),
  ];
  const holds = (at) => said(at).some((text) => (text ?? '').toLowerCase().includes(find));
  const rows = columns.item_id.map((_, at) => at).filter((at) => kept(at) && (!find || holds(at)));
  if (!STATE.sort) return rows;
  const [, down, name] = /^(-?)(.*)$/.exec(STATE.sort);
  const order = (a, b) => (a === b ? 0 : a === null ? 1 : b === null ? -1 : (a < b ? -1 : 1) * (down ? -1 : 1));
  return rows.sort((a, b) => order(columns[name][a], columns[name][b]));
}

function verdict(run, at, setting) {
  const items = run.items;
  const status = items[`status_${setting}`][at];
  if (status === null) return '\u2013';
  const given = items[`extracted_${setting}`][at];
  const score = items[`score_${setting}`][at];
  const names = { 0: 'wrong', 1: 'right' };
  const mark =
    score === null
      ? (STATUSES[status] ?? status)
      : run.judged
        ? `${show(score, 2)} of 10`
        : (names[score] ?? show(score, 2));
  return [
    h('span', { class: `mark ${mark}` }, mark),
    ' ',
    given === null ? '' : h('span', { class: 'given' }, visible(given)),
  ];
}

function sortButton(name) {
  const now = STATE.sort.replace('-', '') === name ? (STATE.sort.startsWith('-') ? 'descending' : 'ascending') : null;
  const next = now === 'ascending' ? `-${name}` : now ? '' : name;
  const mark = { ascending: ' \u25b2', descending: ' \u25bc' }[now] ?? '';
  const sort = () => choose({ sort: next, page: '0' });
  const label = COLUMNS[name] + mark;
  return h('th', { scope: 'col', 'aria-sort': now }, button(label, sort, { 'data-key': `sort-${name}` }));
}

function itemLine(run, columns, at, first) {
  const id = columns.item_id[at];
  const pick = () => choose({ item: id });
  const move = (event) => {
    const next = { ArrowDown: 'nextSibling', ArrowUp: 'previousSibling' }[event.key];
    if (event.key === 'Enter' || event.key === ' ') pick();
    else if (next) event.currentTarget[next]?.focus();
    else return;
    event.preventDefault();
  };
  const own = id === STATE.item;
  return h(
    'tr',
    {
      ...{ tabindex: own || at === first ? 0 : -1, 'data-key': `item-${at}`, 'data-item': at },
      ...{ class: own ? 'chosen' : '', 'aria-current': own && 'true', onclick: pick, onkeydown: move },
    },
    h('th', { scope: 'row' }, visible(id)),
    h('td', {}, h('span', { class: 'given' }, visible(columns.question[at] ?? '\u2013'))),
    h('td', {}, h('span', { class: 'given' }, visible(columns.gold[at] ?? '\u2013'))),
    RUN_SIDES.map(([setting]) => h('td', {}, verdict(run, at, setting))),
    h('td', { class: columns.differs[at] ? 'differs' : '' }, visible(columns.concludes[at] ?? '\u2013')),
    RUN_SIDES.length > 1 && h('td', { class: columns.outcome[at] }, columns.outcome[at]),
    h(
      'td',
      { class: 'muted' },
      evidenceOf(id)
        .map(([name]) => name)
        .join(', '),
    ),
  );
}

function pageButtons(page, pages) {
  const step = (by, label) =>
    button(label, () => choose({ page: String(page + by) }), {
      ...{ 'data-key': `page${by}`, disabled: page + by < 0 || page + by >= pages },
    });
  return pages < 2 ? '' : h('p', { class: 'note' }, step(-1, 'Previous'), ` ${page + 1} of ${pages} `, step(1, 'Next'));
}

/** The items that match: the table with the questions, texts and rows to list; null where none are evaluated. */
async function listedItems() {
  const run = chosenRun('evaluation');
  if (!run) return null;
  const columns = { ...run.items, question: await packedJson(run.questions) };
  const texts = await textsOf(run, STATE.find ? null : columns.item_id.indexOf(STATE.item));
  return { run, columns, texts, rows: itemRows(columns, texts) };
}

const pagesOf = (listed) => Math.max(1, Math.ceil((listed?.rows.length ?? 0) / ROWS_AT_ONCE));

async function drawItems(body, width) {
  const listed = await listedItems();
  if (!listed) return { missing: `${STATE.model} is not evaluated on ${STATE.dataset} yet: dvc repro evaluate.` };
  const { run, columns, texts, rows } = listed;
  const [page, pages] = [Number(STATE.page), pagesOf(listed)];
  const here = rows.slice(page * ROWS_AT_ONCE, (page + 1) * ROWS_AT_ONCE);
  const first = here.some((at) => columns.item_id[at] === STATE.item) ? null : here[0];
  const head = h('tr', {}, Object.keys(COLUMNS).map(sortButton), h('th', { scope: 'col' }, 'more'));
  const lines = here.map((at) => itemLine(run, columns, at, first));
  const list = h('table', { class: 'items' }, h('thead', {}, head), h('tbody', {}, lines));
  body.append(
    h('div', { class: 'scroll tall' }, list),
    pageButtons(page, pages),
    chosenItem(run, columns, texts, width),
  );
  const search = h('input', { type: 'search', value: STATE.find, 'data-key': 'find' });
  for (const event of ['change', 'search']) {
    search.addEventListener(event, () => choose({ find: search.value, page: '0' }));
  }
  const carried = new Set(run.texts.map(({ row }) => row));
  const bare = rows.filter((at) => !carried.has(at)).length;
  return {
    controls: [
      picker('show', Object.entries(OUTCOMES), 'show'),
      h('label', { class: 'picker' }, h('span', {}, 'find'), search),
    ],
    answer: run.items_answer,
    caption:
      `${counted(rows.length, 'item')} of ${columns.item_id.length} match, ${STATE.model} on ${STATE.dataset}. Find looks in ` +
      'questions, answers and texts. Choose a row to see all evidence of it. ' +
      (bare ? `The texts of ${bare} are not in the page (report.texts and report.megabytes in params.yaml).` : ''),
    csv: () => rowsOf(columns, rows),
  };
}
