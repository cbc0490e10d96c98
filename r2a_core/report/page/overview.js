// The start of the page: who ran, the three answers, how sure, what is not shown, what was null; the rest is folded.

const SEEN_AT_ONCE = 5; // sentences of a list on the first screen

const MODEL_KINDS = {
  train: 'trained by this study',
  hub: 'Hugging Face Hub',
  local: 'local folder',
  gguf: 'GGUF file',
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
  const datasets = DATA.overview.datasets.map((one) => [
    one.name,
    one.kind ?? '\u2013',
    show(one.n),
    visible(one.example ?? '\u2013'),
  ]);
  return fold(
    'Models, datasets and settings',
    table([['model'], ['kind'], ['source'], ['revision'], ['dtype'], ['layers \u00d7 heads', 'number']], models),
    table([['dataset'], ['kind'], ['questions', 'number'], ['the first']], datasets, 'tests'),
    h('p', { class: 'note' }, `Settings: ${DATA.overview.settings.map(words).join(', ')}.`, notRun()),
  );
}

/** The note that the address carries, for all whom it is sent to. */
function noteLine() {
  const line = h('p', { id: 'note' });
  const redrawn = () => {
    line.textContent = STATE.note && `Note: ${visible(STATE.note)}`;
  };
  FIGURES.push({ keys: ['note'], frame: line, redraw: redrawn });
  return line;
}

/** Names the setting that run.settings leaves out. */
function notRun() {
  const left = SIDES.map(([setting]) => setting).filter((setting) => !DATA.overview.settings.includes(setting));
  return left.length ? ` Not run: ${left.map(words).join(', ')}.` : '';
}

function gapsPart() {
  if (!DATA.gaps.length) return null;
  return fold(
    `Not measured: ${counted(DATA.gaps.length, 'part')}`,
    h(
      'ul',
      { class: 'gaps' },
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
    ? fold('Machine and versions that drew this page', pairs(Object.entries(DATA.machine)))
    : h(
        'p',
        { class: 'note' },
        'The page is the same on every machine; ',
        h('code', {}, 'python -m stages.report --machine FILE.html'),
        ' writes a copy that names machine and versions.',
      );
  return [
    fold(`All ${DATA.overview.params.length} settings`, pairs(DATA.overview.params.map((one) => [one.key, one.value]))),
    machine,
  ];
}

function wordsPart() {
  const entries = Object.entries(DATA.glossary);
  const list = entries.map(([word, meaning]) => [h('dt', {}, word), h('dd', {}, meaning)]);
  return h('details', { id: 'words' }, h('summary', {}, 'Words used on this page'), h('dl', { class: 'words' }, list));
}

/** How sure the answers are, what they cannot show, what was null: the first sentences of each list, the rest folded. */
function certaintyPart({ sure, limits, nulls }) {
  const column = (title, texts) =>
    texts.length > 0 &&
    h(
      'div',
      {},
      h('h3', {}, title),
      bullets(texts.slice(0, SEEN_AT_ONCE)),
      texts.length > SEEN_AT_ONCE && fold(`${texts.length - SEEN_AT_ONCE} more`, bullets(texts.slice(SEEN_AT_ONCE))),
    );
  const columns = { 'How sure': sure, 'What this cannot show': limits, 'What was null': nulls };
  return h(
    'div',
    { class: 'findings plain' },
    Object.entries(columns).map((one) => column(...one)),
  );
}

/** What a page that was trimmed still carries. */
const leftOutLine = () =>
  DATA.left_out.length > 0 &&
  h(
    'p',
    { id: 'left-out', class: 'note' },
    `To stay small (report.megabytes in params.yaml), the page carries ${DATA.left_out.join(', ')}.`,
  );

function overviewSection(against, comparisons) {
  const { models, datasets, questions } = DATA.overview;
  const details = questions.flatMap((one) => one.details);
  return [
    h('h1', {}, visible(DATA.title)),
    h(
      'p',
      { class: 'lede' },
      models.map((model) => h('span', {}, visible(model.line), ' ')),
      askedOf(datasets),
    ),
    h('p', { id: 'notice', class: 'missing', role: 'status' }),
    noteLine(),
    leftOutLine(),
    pageLinks(),
    headlinePart(),
    against,
    certaintyPart(DATA.overview),
    details.length > 0 && fold('Every number behind the three answers', bullets(details)),
    wordsPart(),
    comparisons,
    ranPart(),
    gapsPart(),
    paramsPart(),
  ].filter(Boolean);
}

function pageLinks() {
  const links = DATA.pages.flatMap(({ label, href }, number) => [number > 0 && ', ', h('a', { href }, visible(label))]);
  return (
    links.length > 0 && h('p', { id: 'pages', class: 'note' }, 'Also, with more of it or of what is beside it: ', links)
  );
}

function askedOf(datasets) {
  const example = datasets.find((one) => one.example)?.example;
  const names = datasets.map((one) => words(one.name)).join(', ');
  return `Questions: ${names}${example ? `, such as \u201c${visible(example).slice(0, 160)}\u201d` : ''}.`;
}
