// Every item with its outcome, and the two texts of one item side by side.

const OUTCOMES = {
  all: 'all items',
  win: 'win: better with reasoning',
  tie: 'tie',
  loss: 'loss: better without',
  unpaired: 'not valid in both',
};
const STATUSES = { ok: 'valid', unfinished: 'not finished', bad_think: 'think format', no_answer: 'no answer' };
const ROWS_AT_ONCE = 200;

function itemRows(run) {
  const items = run.items;
  const find = STATE.find.toLowerCase();
  return items.item_id
    .map((_, at) => at)
    .filter(
      (at) =>
        (STATE.show === 'all' || items.outcome[at] === STATE.show) &&
        (!find ||
          [
            items.item_id[at],
            items.gold[at],
            items.extracted_with_reasoning[at],
            items.extracted_without_reasoning[at],
          ].some((text) =>
            String(text ?? '')
              .toLowerCase()
              .includes(find),
          )),
    );
}

function verdict(run, at, setting) {
  const items = run.items;
  const status = items[`status_${setting}`][at];
  if (status === null) return '\u2013';
  const given = items[`extracted_${setting}`][at];
  const score = items[`score_${setting}`][at];
  const mark =
    score === null
      ? (STATUSES[status] ?? status)
      : run.judged
        ? `${show(score, 2)} of 10`
        : score === 1
          ? 'right'
          : score === 0
            ? 'wrong'
            : show(score, 2);
  return [
    h('span', { class: `mark ${mark}` }, mark),
    given === null ? '' : h('span', { class: 'given' }, visible(given)),
  ];
}

const itemsFigure = () => figure({ id: 'items', title: 'Items', keys: ['show', 'find', 'item'] }, drawItems);

async function drawItems(body) {
  const run = findRecord('evaluation', { model: STATE.model, dataset: STATE.dataset });
  if (!run) return { missing: `${STATE.model} is not evaluated on ${STATE.dataset} yet: dvc repro evaluate.` };
  const texts = await packedJson(run.texts);
  const rows = itemRows(run);
  const items = run.items;
  const pick = (at) => choose({ item: items.item_id[at] });
  const line = (at) =>
    h(
      'tr',
      {
        tabindex: 0,
        'data-key': `item-${at}`,
        'data-item': at,
        class: items.item_id[at] === STATE.item ? 'chosen' : '',
        onclick: () => pick(at),
        onkeydown: (event) => {
          const next = { ArrowDown: 'nextSibling', ArrowUp: 'previousSibling' }[event.key];
          if (event.key === 'Enter' || event.key === ' ') pick(at);
          else if (next) event.currentTarget[next]?.focus();
          else return;
          event.preventDefault();
        },
      },
      h('th', { scope: 'row' }, visible(items.item_id[at])),
      h('td', {}, visible(items.gold[at] ?? '\u2013')),
      SIDES.map(([setting]) => h('td', {}, verdict(run, at, setting))),
      h('td', { class: items.outcome[at] }, items.outcome[at]),
      h('td', {}, texts[at] ? 'yes' : ''),
    );
  const list = h(
    'table',
    { class: 'items' },
    h(
      'thead',
      {},
      h(
        'tr',
        {},
        ['item', 'reference', 'with reasoning', 'without reasoning', 'outcome', 'texts'].map((name) =>
          h('th', { scope: 'col' }, name),
        ),
      ),
    ),
    h('tbody', {}, rows.slice(0, ROWS_AT_ONCE).map(line)),
  );
  const more =
    rows.length > ROWS_AT_ONCE
      ? h('p', { class: 'note' }, `${rows.length - ROWS_AT_ONCE} more rows: narrow the search.`)
      : null;
  body.append(h('div', { class: 'scroll tall' }, list), more ?? '', textPair(run, texts));
  const paired = run.summary.paired;
  const search = h('input', {
    type: 'search',
    value: STATE.find,
    'data-key': 'find',
    onchange: () => choose({ find: search.value }),
    onsearch: () => choose({ find: search.value }),
  });
  return {
    controls: [
      picker('show', Object.entries(OUTCOMES), 'show'),
      h('label', { class: 'picker' }, h('span', {}, 'find'), search),
    ],
    caption:
      `${counted(rows.length, 'item')} shown of ${items.item_id.length}, ${STATE.model} on ${STATE.dataset}: ` +
      (paired.win === null
        ? `${paired.reason}. `
        : `${paired.win} wins, ${paired.tie} ties, ${paired.loss} losses with reasoning over ${paired.n} common items. `) +
      'Choose a row to read both texts; the page carries those marked yes.',
    csv: () => [Object.keys(items), ...rows.map((at) => Object.values(items).map((column) => column[at]))],
  };
}

function textPair(run, texts) {
  const at = run.items.item_id.indexOf(STATE.item);
  if (at < 0) return h('p', { class: 'note' }, 'No item is chosen.');
  const found = texts[at];
  if (!found)
    return h(
      'p',
      { class: 'missing' },
      'The page does not carry the texts of this item; raise report.texts in params.yaml for more.',
    );
  const side = ([setting, name]) =>
    h(
      'article',
      { 'data-setting': setting },
      h('h4', {}, `${name} reasoning `, verdict(run, at, setting)),
      h(
        'div',
        { class: 'text', dir: 'auto', tabindex: 0 },
        found[setting] === undefined || found[setting] === null ? 'no response' : visible(found[setting]),
      ),
    );
  return h(
    'div',
    { class: 'pair' },
    h(
      'div',
      { class: 'question' },
      h('h4', {}, `Question ${visible(STATE.item)}`),
      h('div', { class: 'text', dir: 'auto' }, visible(found.question ?? 'not here')),
    ),
    SIDES.map(side),
  );
}
