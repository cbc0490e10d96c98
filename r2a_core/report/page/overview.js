// What ran, the questions with their answers, the paper's numbers beside ours, what is missing, the params.

function table(columns, rows, className = '') {
  return h(
    'div',
    { class: 'scroll' },
    h(
      'table',
      { class: className },
      h(
        'thead',
        {},
        h(
          'tr',
          {},
          columns.map(([name, kind]) => h('th', { scope: 'col', class: kind ?? '' }, name)),
        ),
      ),
      h(
        'tbody',
        {},
        rows.map((row) =>
          h(
            'tr',
            {},
            row.map((value, at) =>
              h(at ? 'td' : 'th', { scope: at ? null : 'row', class: columns[at][1] ?? '' }, value),
            ),
          ),
        ),
      ),
    ),
  );
}

const MODEL_KINDS = {
  train: 'trained by this study',
  hub: 'Hugging Face Hub',
  local: 'local folder',
  texts: 'texts only',
};

function ranPart() {
  const models = DATA.overview.models.map((model) => [
    model.name,
    MODEL_KINDS[model.kind] ?? model.kind ?? '\u2013',
    visible(model.source ?? '\u2013'),
    h('code', { title: model.revision }, model.revision ? model.revision.slice(0, 12) : '\u2013'),
    model.dtype ?? '\u2013',
    model.layers ? `${model.layers} \u00d7 ${model.heads}` : '\u2013',
  ]);
  const datasets = DATA.overview.datasets.map((one) => [one.name, one.kind ?? '\u2013', show(one.n)]);
  return h(
    'div',
    { class: 'two' },
    h(
      'div',
      {},
      h('h3', {}, 'Models'),
      table([['model'], ['kind'], ['source'], ['revision'], ['dtype'], ['layers \u00d7 heads', 'number']], models),
    ),
    h(
      'div',
      {},
      h('h3', {}, 'Datasets'),
      table([['dataset'], ['kind'], ['questions', 'number']], datasets),
      h('p', { class: 'note' }, `Settings: ${DATA.overview.settings.map(words).join(', ')}.`, notRun()),
    ),
  );
}

/** Names the setting that run.settings leaves out. */
function notRun() {
  const left = SIDES.map(([setting]) => setting).filter((setting) => !DATA.overview.settings.includes(setting));
  return left.length ? ` Not run: ${left.map(words).join(', ')}.` : '';
}

function questionsPart() {
  return h(
    'ol',
    { class: 'questions' },
    DATA.overview.questions.map((one) =>
      h(
        'li',
        {},
        h('h3', {}, one.question),
        h('p', {}, visible(one.answer)),
        one.details.length > 1
          ? h(
              'ul',
              { class: 'note' },
              one.details.map((text) => h('li', {}, visible(text))),
            )
          : '',
        h(
          'p',
          { class: 'note' },
          'Behind it: ',
          h(
            'a',
            {
              href: `#${one.figure}`,
              onclick: (event) => {
                event.preventDefault();
                goTo(one.figure);
              },
            },
            document.querySelector(`#${one.figure} h3`)?.textContent ?? 'the figure',
          ),
        ),
      ),
    ),
  );
}

const publishedFigure = () => figure({ id: 'published', title: 'The paper beside this run', keys: [] }, drawPublished);

function drawPublished(body) {
  const rows = DATA.overview.published;
  if (!rows.length) {
    return {
      missing:
        'No model of this run on a dataset of this run is one of the paper\u2019s, so there is nothing to compare.',
    };
  }
  const digits = (row) => ({ 'attention mass': 4, NLD: 3, '%': 1, layer: 1, '1 to 10': 1 })[row.unit] ?? 0;
  body.append(
    table(
      [['model'], ['measure'], ['unit'], ['paper', 'number'], ['this run', 'number'], ['difference', 'number']],
      rows.map((row) => [
        row.model,
        row.measure,
        row.unit,
        fixed(row.published, digits(row)),
        fixed(row.ours, digits(row)),
        row.ours === null ? '\u2013' : fixed(row.ours - row.published, digits(row)),
      ]),
    ),
  );
  return {
    caption:
      'Published values (arXiv 2509.23676) and the same quantity measured here; ' +
      'NLD: share of the logit difference restored.',
    csv: () => [
      ['model', 'measure', 'unit', 'paper', 'ours'],
      ...rows.map((row) => [row.model, row.measure, row.unit, row.published, row.ours]),
    ],
  };
}

function gapsPart() {
  if (!DATA.gaps.length) return null;
  return h(
    'details',
    { class: 'gaps', open: true },
    h('summary', {}, `Not in this page: ${counted(DATA.gaps.length, 'part')}`),
    h(
      'ul',
      {},
      DATA.gaps.map((gap) =>
        h('li', {}, `${gap.part}: ${visible(gap.what)} `, h('code', {}, `dvc repro ${gap.stage}`)),
      ),
    ),
  );
}

function paramsPart() {
  const pairs = (entries) =>
    table(
      [['key'], ['value']],
      entries.map(([key, value]) => [h('code', {}, key), h('code', {}, visible(value))]),
    );
  const machine = DATA.machine
    ? h(
        'details',
        {},
        h('summary', {}, 'Machine and versions that drew this page'),
        pairs(Object.entries(DATA.machine)),
      )
    : h(
        'p',
        { class: 'note' },
        'Machine and package versions are left out here, so that the page is the same on every machine; ',
        h('code', {}, 'python -m stages.report --machine FILE.html'),
        ' writes a copy that names them.',
      );
  return [
    h(
      'details',
      {},
      h('summary', {}, `Params of the study: ${DATA.overview.params.length} values`),
      pairs(DATA.overview.params.map((one) => [one.key, one.value])),
    ),
    machine,
  ];
}

function overviewSection() {
  const n = DATA.overview.models.length;
  const m = DATA.overview.datasets.length;
  return [
    h('h1', {}, visible(DATA.title)),
    h(
      'p',
      { class: 'lede' },
      `${counted(n, 'model')} on ${counted(m, 'dataset')}: whether reasoning improves the answer, ` +
        'whether the answer looks at the reasoning, and whether changing the reasoning changes the answer.',
    ),
    gapsPart(),
    h('div', { id: 'questions' }),
    publishedFigure(),
    ranPart(),
    paramsPart(),
  ];
}
