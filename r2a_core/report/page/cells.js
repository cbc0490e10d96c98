// Figure 7: every cell of one pair, position by layer; and the mean effect of single heads.

const METRICS = {
  nld: 'NLD',
  logit_diff: 'logit difference',
  log_prob_diff: 'log-probability difference',
  prob_diff: 'probability difference',
  rank_diff: 'rank difference',
};
const roleLabel = (role) => DATA.curves[role]?.label ?? role;

declare(
  'pair',
  '',
  oneOf(() => chosenSweep().pairs),
  ['cell'],
);
declare(
  'probe',
  '',
  oneOf(() => chosenSweep().probes),
  ['cell'],
);
declare(
  'metric',
  'nld',
  oneOf(() => Object.keys(METRICS)),
);
declare('cell', '', (cell) => {
  const { sweep } = chosenSweep();
  return sweep !== undefined && within(cell, [sweep.position.length, sweep.layers.length]);
});
declare(
  'zprobe',
  '',
  oneOf(() => (patchedHeads().find((run) => run.model === STATE.model)?.heads ?? []).map(zName)),
);
declare('zhead', '', (head) => patchedHeads().some((run) => run.model === STATE.model) && hasHead(head));

/** The pairs of the chosen model, the probes of the chosen pair, and what is chosen, or the first. */
function chosenSweep() {
  const sweeps = findRecord('patching', { model: STATE.model })?.sweeps ?? [];
  const pairs = [...new Set(sweeps.map((one) => one.pair_id))];
  const pair = STATE.pair || pairs[0];
  const own = sweeps.filter((one) => one.pair_id === pair);
  const probes = own.map((one) => one.probe);
  return { pairs, probes, sweep: own.find((one) => one.probe === STATE.probe) ?? own[0] };
}

const PAIR_SIDES = ['clean', 'corrupted'];

/** The pair of the chosen model that asks this question of the chosen dataset. */
function pairOf(id) {
  const asks = (side) => side?.item?.item_id === id && side.item.dataset === STATE.dataset;
  const sides = Object.entries(findRecord('patching', { model: STATE.model })?.sides ?? {});
  return sides.find(([, one]) => PAIR_SIDES.some((side) => asks(one[side])))?.[0];
}

/** Both questions of a pair with their answers and traces, and ways to the items that ask the same. */
async function pairTexts(pair) {
  if (!pair) return h('p', { class: 'note' }, 'The questions of this pair are not here.');
  const texts = await packedJson(pair.texts);
  const side = (name) => {
    const { question, answer, item } = pair[name];
    return h(
      'article',
      { 'data-side': name },
      h('h4', {}, `${name} question, answer \u201c${visible(answer)}\u201d`),
      h('div', { class: 'text', dir: 'auto' }, visible(question)),
      fold('its reasoning and answer', h('div', { class: 'text', dir: 'auto' }, visible(texts[name] ?? 'not here'))),
      item &&
        h(
          'p',
          { class: 'links' },
          'Also item ',
          button(item.item_id, () => openItem(item.item_id, item.dataset)),
        ),
    );
  };
  return h('div', { class: 'pair' }, PAIR_SIDES.map(side));
}

/** How far exchanges move the answer, at the flipping token and at the last position: the layers that do most. */
function cellsAnswer(sweep, { values }, pair) {
  const positions = sweep.position.length;
  const most = (row) => {
    const moved = sweep.layers.map((layer, column) => ({ layer, nld: values[column * positions + row] }));
    const known = moved.filter(({ nld }) => !Number.isNaN(nld)).sort((a, b) => b.nld - a.nld);
    return known.length ? `${fixed(100 * known[0].nld, 0)}% of the way (layer ${known[0].layer})` : 'unknown';
  };
  const flip = sweep.role.indexOf('flip');
  const token = flip < 0 ? '' : `\u201c${tokenLabel(sweep, flip, 40)}\u201d`;
  const at = token && `at the ${roleLabel('flip')}, ${token}, it goes up to ${most(flip)}, `;
  const ends = pair ? `from \u201c${pair.corrupted.answer}\u201d to \u201c${pair.clean.answer}\u201d` : 'to the other';
  return `Exchanges move the answer ${ends}: ${at}at the ${roleLabel('final')} up to ${most(positions - 1)}.`;
}

function tokenLabel(sweep, at, longest) {
  const [clean, corrupted] = [sweep.clean_token[at], sweep.corrupted_token[at]].map((text) => shortText(text ?? ''));
  return shortened(clean === corrupted ? clean : `${clean} | ${corrupted}`, longest);
}

function cellFacts(sweep, grids, at) {
  if (!at) return h('p', { class: 'note', id: 'cell-facts' }, 'Choose a cell to read its values.');
  const [row, column] = at;
  const value = (metric) => grids[metric].values[column * sweep.position.length + row];
  return h(
    'div',
    { class: 'side', id: 'cell-facts' },
    h('h4', {}, `layer ${sweep.layers[column]}, position ${sweep.position[row]}`),
    facts([
      ['role', roleLabel(sweep.role[row])],
      ['clean token', h('code', {}, visible(sweep.clean_token[row] ?? ''))],
      ['corrupted token', h('code', {}, visible(sweep.corrupted_token[row] ?? ''))],
      ...Object.entries(METRICS).map(([metric, name]) => [
        name,
        h('span', { 'data-metric': metric, 'data-value': value(metric) }, show(value(metric), 4)),
      ]),
      ['logit difference, clean run', show(sweep.ld_clean, 3)],
      ['logit difference, corrupted run', show(sweep.ld_corrupted, 3)],
    ]),
  );
}

/** The grid of one pair; at: the chosen cell or null. */
function pairGrid(sweep, grids, at, width) {
  const { shape, values } = grids[STATE.metric];
  const [layers, positions] = shape;
  const largest = STATE.metric === 'nld' ? 1 : largestOf(values);
  const index = (row, column) => column * positions + row;
  const labels = Array.from({ length: positions }, (_, row) => tokenLabel(sweep, row, 18));
  const left = 24 + 7.2 * Math.max(6, ...labels.map((label) => label.length));
  const grid = cellGrid({
    ...{ id: 'cell-grid', rows: positions, columns: layers, left, tallest: 24, chosen: at },
    width: Math.min(width > 760 ? width - 290 : width, left + layers * 54),
    rowLabels: (row) => labels[row],
    columnLabels: (column) => String(sweep.layers[column]),
    columnTitle: DATA.exchange_axes.across,
    description: `${METRICS[STATE.metric]} by position and layer`,
    value: (row, column) => values[index(row, column)],
    colour: (one) => diverging(one / largest),
    name: (row, column) =>
      `${tokenLabel(sweep, row, 30)} (${roleLabel(sweep.role[row])}), layer ${sweep.layers[column]}`,
    choose: (row, column) => {
      choose({ cell: `${row}.${column}` });
      announce(`${METRICS.nld} ${show(grids.nld.values[index(row, column)], 4)}`);
    },
    over: (cell) =>
      sweep.role.map((role, row) => {
        const { y, height } = cell(row, 0);
        return role === 'flip' && s('rect', { x: left - 5, y: y + 2, width: 3, height: height - 4, fill: BLUE });
      }),
  });
  return h(
    'div',
    {},
    grid,
    divergingBar(METRICS[STATE.metric], largest),
    legend([s('rect', { x: 7, y: 1, width: 4, height: 10, fill: BLUE }), roleLabel('flip')]),
  );
}

/** Every cell of a pair as a row of the copied table. */
function cellRows(sweep, grids) {
  const positions = sweep.position.length;
  return Array.from({ length: sweep.layers.length * positions }, (_, index) => {
    const row = index % positions;
    return {
      ...{ pair_id: sweep.pair_id, probe: sweep.probe, layer: sweep.layers[Math.floor(index / positions)] },
      ...{ position: sweep.position[row], role: sweep.role[row] },
      ...{ clean_token: sweep.clean_token[row], corrupted_token: sweep.corrupted_token[row] },
      ...valuesAt(grids, index),
    };
  });
}

async function drawCells(body, width) {
  const run = findRecord('patching', { model: STATE.model });
  if (!run || !run.sweeps.length)
    return { missing: leftOut(`${STATE.model} has no patched pair yet: dvc repro patch.`) };
  const { pairs, probes, sweep } = chosenSweep();
  const grids = await allNumbers(sweep.grids);
  const at = STATE.cell ? STATE.cell.split('.').map(Number) : null;
  const pair = run.sides[sweep.pair_id];
  body.append(await pairTexts(pair));
  body.append(h('div', { class: 'beside' }, pairGrid(sweep, grids, at, width), cellFacts(sweep, grids, at)));
  const named = pairs.map((pair) => [pair, visible(pair)]);
  return {
    controls: [
      picker('pair', named, 'pair', sweep.pair_id),
      picker('probe', probes, 'probe', sweep.probe),
      picker('value', Object.entries(METRICS), 'metric'),
    ],
    answer: cellsAnswer(sweep, grids.nld, pair),
    caption:
      `${STATE.model}, pair ${visible(sweep.pair_id)}, ${sweep.probe} probe: ${METRICS[STATE.metric]} after an exchange at ` +
      'one position at the input of one layer. Rows: tokens in order; both questions\u2019 where they differ. ' +
      (pairs.length < run.n_pairs
        ? `The page carries the first ${pairs.length} of ${counted(run.n_pairs, 'pair')}.`
        : `${counted(run.n_pairs, 'pair')} in all.`),
    csv: () => cellRows(sweep, grids),
  };
}

const zName = (one) => `${one.probe}, ${roleLabel(one.role)}`;
const patchedHeads = () => DATA.patching.filter((run) => run.heads.length);

async function drawHeadPatch(body, width) {
  const run = patchedHeads().find((one) => one.model === STATE.model);
  if (!run)
    return {
      missing: `No single heads of ${STATE.model} have been patched: add z to patch.sweep.components and set with_z in capture (params.yaml).`,
    };
  const names = run.heads.map(zName);
  const at = Math.max(names.indexOf(STATE.zprobe), 0);
  const one = run.heads[at];
  const { shape, values } = await numbers(one.grid);
  const heads = shape[1];
  const largest = largestOf(values);
  const here = headOf(STATE.zhead);
  const said = here
    ? `${headName(...here)}: mean NLD ${show(values[here[0] * heads + here[1]], 4)}`
    : 'Choose a head to read its value.';
  body.append(
    headGrid(shape, {
      id: 'z-grid',
      width: Math.min(width, 46 + heads * 46),
      description: 'Mean NLD by layer and head',
      value: (layer, head) => values[layer * heads + head],
      colour: (value) => diverging(value / largest),
      chosen: here,
      choose: (layer, head) => choose({ zhead: headName(layer, head) }),
    }),
    divergingBar('mean NLD', largest, show(-largest, 2), show(largest, 2)),
    h('p', { class: 'readout', id: 'z-readout' }, said),
  );
  return {
    controls: [picker('probe and position', names, 'zprobe', names[at])],
    caption:
      `${STATE.model}: the output z of one head at one position is replaced by that of the clean run; mean NLD over ` +
      `n = ${counted(one.n_pairs, 'pair')} and the positions of this role.`,
    csv: () => headRows(values.length, heads, (at) => ({ probe: one.probe, role: one.role, mean_nld: values[at] })),
  };
}
