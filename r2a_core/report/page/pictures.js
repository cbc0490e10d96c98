// A figure as one picture, to be saved: all of it, from its title to its caption, without what is pressed.

const LOOK =
  'fill fill-opacity stroke stroke-width stroke-opacity stroke-dasharray stroke-linecap paint-order opacity font-family ' +
  'font-size font-weight text-anchor visibility';
const UNSAVED = '.controls, .foot, .unseen';
const SCROLLED = '.text, .scroll, #reader-readout';
const MARGIN = 16;
const LARGEST = 16384; // pixels of a side that every browser draws

function download(name, blob) {
  const link = h('a', { download: name, href: URL.createObjectURL(blob) });
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
}

/** Does something while the scrolled boxes of a figure show all that they hold; they are scrolled as before after it. */
function unrolled(figure, work) {
  const boxes = Array.from(figure.querySelectorAll(SCROLLED), (one) => [one, one.scrollLeft, one.scrollTop]);
  const [left, top] = [scrollX, scrollY];
  for (const [box] of boxes) box.classList.remove('long'); // from here on laid out also out of view, to keep its place
  figure.classList.add('whole');
  try {
    return work();
  } finally {
    figure.classList.remove('whole');
    for (const [box, ...place] of boxes) box.scrollTo(...place);
    scrollTo(left, top);
  }
}

/** The lines of a text as they are broken on the page: {text, box}. */
function linesOfText(node) {
  const range = document.createRange();
  const boxOf = (from, to) => {
    range.setStart(node, from);
    range.setEnd(node, to);
    return range.getBoundingClientRect();
  };
  const lines = [];
  for (const { 0: word, index } of node.data.matchAll(/\S+/g)) {
    const [last, { top }] = [lines.at(-1), boxOf(index, index + word.length)];
    const to = index + word.length;
    if (last?.top === top) last.to = to;
    else lines.push({ top, from: index, to });
  }
  return lines.map(({ from, to }) => ({ text: node.data.slice(from, to), box: boxOf(from, to) }));
}

/** The texts of a figure outside its pictures: {text, box, style}; those that the page cuts end as they do there. */
function writtenTexts(figure) {
  const texts = document.createTreeWalker(figure, NodeFilter.SHOW_TEXT);
  const found = [];
  while (texts.nextNode()) {
    const parent = texts.currentNode.parentElement;
    if (parent.closest(`svg, ${UNSAVED}`) || !parent.checkVisibility()) continue;
    const style = getComputedStyle(parent);
    const cut = style.textOverflow === 'ellipsis' ? parent.clientWidth / parent.scrollWidth : 1;
    for (const { text, box } of linesOfText(texts.currentNode))
      found.push({ text: shortened(text, Math.floor(cut * text.length)), box, style });
  }
  return found;
}

/** The coloured grounds of a figure: {box, style}. */
function groundsOf(figure) {
  const found = [];
  for (const one of figure.querySelectorAll('.body *')) {
    const style = getComputedStyle(one);
    if (style.backgroundColor === 'rgba(0, 0, 0, 0)' || one.closest('svg') || !one.checkVisibility()) continue;
    for (const box of one.getClientRects()) found.push({ box, style });
  }
  return found;
}

/** A copy of an SVG with the styles that the page gives it. */
function styledCopy(drawn, place) {
  const copy = fill(drawn.cloneNode(true), { ...place, overflow: 'visible' }, []);
  const copies = copy.querySelectorAll('*');
  drawn.querySelectorAll('*').forEach((one, at) => {
    const style = getComputedStyle(one);
    for (const name of LOOK.split(' ')) copies[at].setAttribute(name, style.getPropertyValue(name));
  });
  return copy;
}

/** A whole figure as one picture: grounds and maps, its SVGs with their styles, and the text around them. */
const pictureOf = (figure) => unrolled(figure, () => drawnWhole(figure));

/** One line of text as an SVG text, in its colour, weight and size. */
function writtenText({ text, style }, { x, y, height }) {
  const { color, fontFamily, fontSize, fontWeight, textDecorationLine } = style;
  const font = { 'font-family': fontFamily, 'font-size': fontSize, 'font-weight': fontWeight };
  const place = { x, y: y + 0.78 * height, fill: color, 'text-decoration': textDecorationLine };
  return s('text', { ...place, ...font, 'xml:space': 'preserve' }, text);
}

function drawnWhole(figure) {
  const [first, last] = ['h3', 'figcaption'].map((name) => figure.querySelector(name).getBoundingClientRect());
  const all = (name) => Array.from(figure.querySelectorAll(`.body ${name}`)).filter((one) => one.checkVisibility());
  const [maps, drawn] = [all('canvas'), all('svg')];
  const right = Math.max(...[figure, ...drawn, ...all('table')].map((one) => one.getBoundingClientRect().right));
  const [width, height] = [right - first.left + 2 * MARGIN, last.bottom - first.top + 2 * MARGIN];
  const at = (box) => ({ x: box.left - first.left, y: box.top - first.top, width: box.width, height: box.height });
  const map = (canvas) => {
    const looks = { href: canvas.toDataURL(), preserveAspectRatio: 'none', 'image-rendering': 'pixelated' };
    return s('image', { ...at(canvas.getBoundingClientRect()), ...looks });
  };
  const ground = getComputedStyle(figure).backgroundColor;
  const whole = s(
    'svg',
    { width, height, viewBox: `${-MARGIN} ${-MARGIN} ${width} ${height}` },
    s('rect', { x: -MARGIN, y: -MARGIN, width, height, fill: ground }),
    groundsOf(figure).map(({ box, style }) =>
      s('rect', { ...at(box), fill: style.backgroundColor, 'fill-opacity': style.opacity }),
    ),
    maps.map(map),
    drawn.map((one) => styledCopy(one, at(one.getBoundingClientRect()))),
    writtenTexts(figure).map((one) => writtenText(one, at(one.box))),
  );
  return { width, height, text: new XMLSerializer().serializeToString(whole) };
}

async function pngOf({ width, height, text }) {
  const image = new Image();
  image.src = `data:image/svg+xml,${encodeURIComponent(text)}`;
  await image.decode();
  const scale = Math.min(2, LARGEST / Math.max(width, height));
  const canvas = h('canvas', { width: scale * width, height: scale * height });
  canvas.getContext('2d').drawImage(image, 0, 0, canvas.width, canvas.height);
  return new Promise((resolve) => {
    canvas.toBlob(resolve);
  });
}
