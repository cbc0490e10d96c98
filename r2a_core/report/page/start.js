// Builds the page, draws every figure, and follows the address, the window's size, the night and the printer.

const SECTIONS = [
  ['overview', 'Overview', null, overviewSection],
  [
    'evaluation',
    'Evaluation',
    'Does reasoning improve the answers?',
    () => [
      accuracyFigure(),
      answersFigure(),
      ...(judgedRuns().length ? [judgedFigure()] : []),
      funnelFigure(),
      itemsFigure(),
    ],
  ],
  [
    'attention',
    'Attention',
    'Does the answer look at the reasoning?',
    () => [
      boxesFigure(),
      headsFigure(),
      ...(DATA.readers.length ? [readersFigure()] : []),
      walksFigure(),
      walkFigure(),
      readerFigure(),
    ],
  ],
  [
    'patching',
    'Patching',
    'Does the answer change when the model\u2019s state at one word of the reasoning is exchanged?',
    () => [
      curvesFigure(),
      cellsFigure(),
      ...(DATA.patching.some((run) => run.heads.length) ? [headPatchFigure()] : []),
    ],
  ],
  [
    'knockout',
    'Knock-out',
    'What does the answer lose when heads no longer see the reasoning?',
    () => [knockoutFigure()],
  ],
  [
    'perturb',
    'Changed reasoning',
    'What becomes of the answer when the reasoning is cut or changed?',
    () => [perturbFigure()],
  ],
  [
    'sentences',
    'Sentences',
    'Which sentences of the reasoning do the rest and the answer need?',
    () => [sentencesFigure()],
  ],
  [
    'instruments',
    'Instruments',
    'Which measure tells an answer that needs its trace from one that does not?',
    () => [instrumentsFigure()],
  ],
];

function buildSections() {
  document.title = visible(DATA.title);
  document.getElementById('nav').append(...SECTIONS.map(([id, name]) => linkTo(id, name)));
  document
    .getElementById('main')
    .replaceChildren(
      ...SECTIONS.map(([id, name, question, build]) =>
        h(
          'section',
          { id, class: 'section' },
          question ? [h('h2', {}, name), h('p', { class: 'lede' }, question)] : [],
          build(),
        ),
      ),
    );
  document
    .getElementById('footer')
    .append(
      'Choices are kept in the address: copy it to share this view. Grids and lists work with Tab, ' +
        'the arrow keys and Enter; Esc releases a token. The page needs no network.',
    );
}

function drawPickers() {
  document.getElementById('pickers').replaceChildren(
    picker(
      'model',
      DATA.overview.models.map((model) => model.name),
      'model',
    ),
    picker(
      'dataset',
      DATA.overview.datasets.map((dataset) => dataset.name),
      'dataset',
    ),
  );
}

/** Marks the section in view in the navigation. */
function markCurrent() {
  const links = document.querySelectorAll('#nav a');
  const seen = new IntersectionObserver(
    (entries) => {
      const here = entries.find((one) => one.isIntersecting)?.target.id;
      if (here) links.forEach((link) => link.toggleAttribute('aria-current', link.hash === `#${here}`));
    },
    { rootMargin: '-40% 0px -55% 0px' },
  );
  document.querySelectorAll('.section').forEach((section) => seen.observe(section));
}

const redrawAll = () => Promise.all(FIGURES.map((one) => one.redraw()));

async function follow() {
  document.getElementById('notice').textContent = readAddress();
  drawPickers();
  await redrawAll();
  const anchor = anchorInAddress();
  if (anchor) document.getElementById(anchor)?.scrollIntoView();
}

buildSections();
markCurrent();
follow().then(() => document.documentElement.setAttribute('data-ready', 'yes'));
addEventListener('hashchange', follow);
let waiting = 0;
let width = innerWidth;
addEventListener('resize', () => {
  if (innerWidth === width) return;
  width = innerWidth;
  clearTimeout(waiting);
  waiting = setTimeout(redrawAll, 120);
});
NIGHT.addEventListener('change', redrawAll);
addEventListener('beforeprint', () => {
  printing = true;
  redrawAll();
});
addEventListener('afterprint', () => {
  printing = false;
  redrawAll();
});
