// Builds the page, draws every figure, and follows the address, the window's size, the night and the printer.

// By id: title, what draws it, the choices it depends on beside model and dataset, whether the page has it, and a sign
// of what it shows.
const DRAWN = {
  against: ['Another run beside this one', (body) => drawBeside(body, DATA.against), [], () => DATA.against !== null],
  published: [
    'The paper beside this run',
    (body) => drawBeside(body, DATA.overview.published),
    [],
    () => DATA.overview.published.rows.length,
  ],
  beside: [
    'The models beside each other',
    (body) => drawBeside(body, DATA.overview.beside),
    [],
    () => DATA.overview.beside.rows.length,
  ],
  accuracy: ['Accuracy with and without reasoning', drawAccuracy],
  answers: ['What was answered, with and without reasoning', drawAnswers],
  judged: ['Judge scores with and without reasoning', drawJudged, [], () => judgedRuns().length],
  funnel: ['Funnel: which responses count', drawFunnel],
  items: ['Items', drawItems, ['show', 'find', 'sort', 'page', 'item']],
  boxes: ['Where the attention goes', drawBoxes, ['source']],
  heads: ['Which heads look where', drawHeads, ['setting', 'target', 'head']],
  readers: ['What training added to the heads', drawReaders, ['head'], () => DATA.readers.length],
  walks: ['Beyond the length of the trace', drawWalks, ['head']],
  walk: ['The walk of one head', drawWalk, ['head', 'item']],
  reader: ['Trace reader', drawReader, ['head', 'item', 'view', 'mode', 'line'], () => true, readerSign],
  curves: ['How far one exchange moves the answer, by layer', drawCurves],
  cells: ['One pair of questions: every position and layer', drawCells, ['pair', 'probe', 'metric', 'cell']],
  'head-patches': ['Patching single heads', drawHeadPatch, ['zprobe', 'zhead'], () => patchedHeads().length],
  cuts: ['What cutting heads costs', drawKnockout],
  changes: ['The answer after changed reasoning', drawPerturb],
  hidden: ['What hiding a sentence does', drawSentences],
  agreements: ['What each instrument can be believed for', drawInstruments],
};

const SECTIONS = [
  ['evaluation', 'Evaluation', 'Does reasoning improve the answers?', 'accuracy answers judged funnel items'],
  ['attention', 'Attention', 'Does the answer look at the reasoning?', 'boxes heads readers walks walk reader'],
  [
    'patching',
    'Patching',
    'Does the answer change when the answer that a sentence of the reasoning names is exchanged inside the model?',
    'curves cells head-patches',
  ],
  ['knockout', 'Knock-out', 'What does the answer lose when heads no longer see the reasoning?', 'cuts'],
  ['perturb', 'Changed reasoning', 'What becomes of the answer when the reasoning is cut or changed?', 'changes'],
  ['sentences', 'Sentences', 'Which sentences of the reasoning do the rest and the answer need?', 'hidden'],
  [
    'instruments',
    'Instruments',
    'Which measure tells an answer that needs its trace from one that does not?',
    'agreements',
  ],
];

/** The figures of these ids that the page has. */
const figures = (ids) =>
  ids
    .split(' ')
    .filter((id) => DRAWN[id][3]?.() ?? true)
    .map((id) => figure(id, ...DRAWN[id]));

function buildSections() {
  document.title = visible(DATA.title);
  const parts = [['overview', 'Overview'], ...SECTIONS];
  document.getElementById('nav').append(...parts.map(([id, name]) => linkTo(id, name)));
  const section = (id, ...children) => h('section', { id, class: 'section' }, ...children);
  const asked = ([id, name, question, ids]) =>
    section(id, h('h2', {}, name), h('p', { class: 'lede' }, question), figures(ids));
  document
    .getElementById('main')
    .replaceChildren(
      section('overview', overviewSection(figures('against'), figures('published beside'))),
      ...SECTIONS.map(asked),
    );
  document
    .getElementById('footer')
    .append(
      'Choices are kept in the address: copy it to share this view. Grids and lists work with Tab, ' +
        'the arrow keys and Enter; Esc releases a token. The page needs no network.',
    );
}

function drawPickers() {
  const named = (name) => picker(name, namesOf(`${name}s`), name);
  document.getElementById('pickers').replaceChildren(...['model', 'dataset'].map(named), noteField());
}

/** Where a note is written that goes with a copied address. */
function noteField() {
  const field = h('input', { value: STATE.note, maxlength: 280, placeholder: 'kept in the address' });
  field.addEventListener('change', () => choose({ note: field.value }));
  return h('label', { class: 'picker' }, h('span', {}, 'note'), field);
}

/** Marks the section in view in the navigation. */
function markCurrent() {
  const links = document.querySelectorAll('#nav a');
  const seen = new IntersectionObserver(
    (entries) => {
      const here = entries.find((one) => one.isIntersecting)?.target.id;
      if (here) for (const link of links) link.setAttribute('aria-current', String(link.hash === `#${here}`));
    },
    { rootMargin: '-40% 0px -55% 0px' },
  );
  document.querySelectorAll('.section').forEach((section) => seen.observe(section));
}

async function follow() {
  const unknown = await readAddress();
  drawPickers();
  await redraw(FIGURES);
  const anchor = anchorInAddress();
  const place = document.getElementById(anchor);
  place?.scrollIntoView();
  if (anchor && !place) unknown.push(`the place \u201c${anchor}\u201d`);
  document.getElementById('notice').textContent = unknown.length
    ? visible(`The address asks for ${unknown.join(', ')}, which this page does not have.`)
    : '';
}

buildSections();
markCurrent();
follow();
addEventListener('hashchange', follow);
let waiting = 0;
let width = innerWidth;
addEventListener('resize', () => {
  if (innerWidth === width) return;
  width = innerWidth;
  clearTimeout(waiting);
  waiting = setTimeout(() => redraw(FIGURES), 120);
});
NIGHT.addEventListener('change', () => redraw(FIGURES));
for (const [name, now] of Object.entries({ beforeprint: true, afterprint: false })) {
  addEventListener(name, () => {
    printing = now;
    for (const one of FIGURES) one.redraw();
  });
}
