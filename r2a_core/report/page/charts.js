// Parts that several figures share: linear scales, axes, rows, lines and dots over them.

function linear(from, to, start, end) {
  return (value) => start + ((value - from) / (to - from || 1)) * (end - start);
}

function ticks(from, to, most = 6) {
  const rough = (to - from) / most;
  const unit = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((one) => one * unit).find((one) => (to - from) / one <= most);
  const first = Math.ceil(from / step - 1e-9);
  return Array.from({ length: Math.floor(to / step + 1e-9) - first + 1 }, (_, at) =>
    Number(((first + at) * step).toPrecision(12)),
  );
}

const wholeTicks = (from, to, most = 8) => [...new Set(ticks(from, to, most).filter(Number.isInteger))];

/** Text in a picture; anchor: start, middle or end. */
function textAt(x, y, anchor, text, className = null) {
  return s('text', { x, y, 'text-anchor': anchor, class: className }, text);
}

/** The title of an axis, centred on a point; `upright` false turns it to read upwards. */
function axisTitle(x, y, text, upright = true) {
  const transform = upright ? null : `rotate(-90 ${x} ${y})`;
  return s('text', { x, y, 'text-anchor': 'middle', class: 'title', transform }, text);
}

/** Value ticks along the bottom, with faint lines up to `top`. */
function xAxis(scale, values, top, bottom, format = String, lines = true) {
  return s(
    'g',
    { class: 'axis' },
    values.map((value) => [
      lines && s('line', { x1: scale(value), x2: scale(value), y1: top, y2: bottom, class: 'rule' }),
      textAt(scale(value), bottom + 15, 'middle', format(value)),
    ]),
  );
}

function yAxis(scale, values, left, right, format = String) {
  return s(
    'g',
    { class: 'axis' },
    values.map((value) => [
      s('line', { x1: left, x2: right, y1: scale(value), y2: scale(value), class: 'rule' }),
      textAt(left - 7, scale(value) + 4, 'end', format(value)),
    ]),
  );
}

/** A dashed line through a picture. */
const crossLine = (x1, y1, x2, y2, attributes = {}) =>
  s('line', { x1, y1, x2, y2, class: 'cross-line', ...attributes });

/** The mark of a reflection phrase, its tip down. */
const reflectionTick = (x, top) => s('path', { d: `M${x - 4} ${top}h8l-4 8z`, class: 'tick' });

function picture(width, height, label, ...children) {
  return s('svg', { width, height, viewBox: `0 0 ${width} ${height}`, role: 'img', 'aria-label': label }, ...children);
}

function diamond(x, y, size = 5, look = { class: 'diamond' }) {
  return s('path', { d: `M${x} ${y - size}l${size} ${size}l${-size} ${size}l${-size} ${-size}z`, ...look });
}

/** A key of what marks mean: [element for 16 x 12 px, text] pairs. */
function legend(...entries) {
  return h(
    'div',
    { class: 'key' },
    entries
      .filter(Boolean)
      .map(([mark, text]) =>
        h('span', {}, s('svg', { width: 18, height: 12, viewBox: '0 0 18 12', 'aria-hidden': 'true' }, mark), text),
      ),
  );
}

/** One of several pictures beside one another, `width` px wide. */
function panel(width, ...children) {
  const box = h('div', {}, ...children);
  box.style.width = `${width}px`;
  return box;
}

/** Pictures beside one another, two in a row where there is room: draw(width) -> its content. */
function panels(width, draws, wide = 720) {
  const each = draws.length > 1 && width > wide ? (width - 28) / 2 : width;
  return h(
    'div',
    { class: 'panels' },
    draws.map((draw) => panel(each, draw(each))),
  );
}

/** A mean with its interval, lying along an axis. */
function intervalMark(x, y, { mean, low, high }, colour, said = null, radius = 4) {
  if (mean === null) return [];
  return [
    low !== null && s('line', { x1: x(low), x2: x(high), y1: y, y2: y, stroke: colour, 'stroke-width': 2 }),
    s('circle', { cx: x(mean), cy: y, r: radius, fill: colour }, said && s('title', {}, said)),
  ];
}

/**
 * Rows over one axis of values, their names at the left or above: marks(row, x, y) -> what stands in a row.
 * value(row) -> text at the right; data(row) -> attributes of the row; guides: values with a line of their own.
 */
function rowChart({
  width,
  label,
  rows,
  ends,
  name,
  marks,
  value = () => '',
  data = () => ({}),
  format = String,
  at = ticks(...ends, 5),
  unit,
  guides = [],
  above = false,
  right = 14,
}) {
  const step = above ? 38 : 20;
  const left = above ? 10 : 18 + 6.9 * Math.max(...rows.map((row) => name(row).length));
  const bottom = 8 + step * rows.length;
  const x = linear(...ends, left, width - right);
  const guide = (one, y1, y2) => crossLine(x(one), y1, x(one), y2);
  return picture(
    width,
    bottom + (unit ? 40 : 22),
    label,
    xAxis(x, at, 8, bottom, format),
    !above && guides.map((one) => guide(one, 8, bottom)),
    rows.map((row, place) => {
      const y = 8 + step * place + (above ? 26 : step / 2);
      const text = [value(row)].flat();
      return s(
        'g',
        data(row),
        above ? textAt(left, y - 13, 'start', name(row)) : textAt(left - 8, y + 4, 'end', name(row)),
        above && guides.map((one) => guide(one, y - 11, y + 11)), // clear of the texts
        marks(row, x, y),
        textAt(width - 4, above ? y - 13 : y + 4, 'end', text[0], text[1] ?? 'value'),
      );
    }),
    unit && axisTitle((left + width) / 2, bottom + 34, unit),
  );
}

/**
 * Lines over a common axis. lines: {name, at, mean, low, high, colour, dash, said(step)}: low and high, where given
 * and not null, bound a band; dashed lines have neither dots nor band. under(x, y) -> what lies below them.
 */
function lineChart({ width, label, lines, ends, xEnds, xTicks, xTitle, yTitle, under = () => [], tall = 232 }) {
  const x = linear(...xEnds, 44, width - 12);
  const y = linear(...ends, tall, 12);
  const along = (line, values) => line.at.map((place, step) => `${x(place).toFixed(1)} ${y(values[step]).toFixed(1)}`);
  return picture(
    width,
    tall + 40,
    label,
    yAxis(y, ticks(...ends, 6), 44, width - 12, (value) => show(value, 1)),
    xAxis(x, xTicks, 12, tall, String, false),
    under(x, y),
    lines.map((line) => {
      const { name, mean, low, high, colour, dash = null } = line;
      return s(
        'g',
        { 'data-curve': name },
        !dash && low && low[0] !== null
          ? s('path', {
              d: `M${along(line, high).join('L')}L${along(line, low).reverse().join('L')}Z`,
              fill: colour,
              'fill-opacity': 0.15,
            })
          : null,
        s('path', {
          d: `M${along(line, mean).join('L')}`,
          fill: 'none',
          stroke: colour,
          'stroke-width': dash ? 1.4 : 2.2,
          'stroke-dasharray': dash,
        }),
        dash
          ? null
          : line.at.map((place, step) =>
              s('circle', { cx: x(place), cy: y(mean[step]), r: 2.4, fill: colour }, s('title', {}, line.said(step))),
            ),
      );
    }),
    axisTitle((width + 32) / 2, tall + 34, xTitle),
    axisTitle(11, (12 + tall) / 2, yTitle, false),
  );
}

/** Lets keys move over the dots of a plot that can be chosen, from left to right, and choose one. */
function walkDots(plot, label) {
  const dots = [...plot.querySelectorAll('.pick')].sort((a, b) => a.getAttribute('cx') - b.getAttribute('cx'));
  if (!dots.length) return plot;
  const cursor = s('circle', { r: 8, class: 'cursor', visibility: 'hidden' });
  const chosen = dots.findIndex((dot) => STATE.head && dot.getAttribute('data-head') === STATE.head);
  let at = Math.max(chosen, 0);
  const move = (to) => {
    at = Math.min(Math.max(to, 0), dots.length - 1);
    const [cx, cy] = ['cx', 'cy'].map((name) => dots[at].getAttribute(name));
    fill(cursor, { cx, cy, visibility: 'visible' }, []);
    announce(dots[at].textContent);
  };
  const keys = {
    ...{ ArrowRight: () => at + 1, ArrowUp: () => at + 1, ArrowLeft: () => at - 1, ArrowDown: () => at - 1 },
    ...{ Home: () => 0, End: () => dots.length - 1 },
  };
  const keydown = (event) => {
    if (keys[event.key]) move(keys[event.key]());
    else if (event.key === 'Enter' || event.key === ' ') dots[at].dispatchEvent(new MouseEvent('click'));
    else return;
    event.preventDefault();
  };
  const said = `${label}. Arrow keys move over the dots, Enter chooses one.`;
  const look = { tabindex: 0, role: 'application', 'aria-label': said, 'data-key': label };
  const events = {
    onfocus: () => plot.matches(':focus-visible') && move(at),
    onblur: () => cursor.setAttribute('visibility', 'hidden'),
    onkeydown: keydown,
  };
  return fill(plot, { ...look, ...events }, cursor);
}
/** Lines over the share of a trace's sentences that stay; others: as for `lineChart`. */
const cutChart = (options) =>
  lineChart({
    ends: [0, 1],
    xEnds: [0, 1],
    xTicks: ticks(0, 1, 5),
    xTitle: 'share of the sentences that stay',
    ...options,
  });

/** What sets of heads cost, a row a set; losses: all that are drawn; others: as for `rowChart`. */
const lossChart = ({ losses, ...options }) =>
  rowChart({
    ends: [Math.min(0, ...losses), Math.max(0.01, ...losses)],
    format: (value) => show(value, 2),
    unit: 'nats per token',
    guides: [0],
    name: (one) => `${one.set} ${one.k}`,
    ...options,
  });

/** Marks over two axes. across, up: {ends, at, title, format}, at being the ticks; marks(x, y) -> what is drawn. */
function scatter({ width, tall = 220, label, across, up, marks }) {
  const [left, top] = [52, 8];
  const x = linear(...across.ends, left, width - 12);
  const y = linear(...up.ends, top + tall, top);
  const plot = picture(
    width,
    top + tall + 44,
    label,
    xAxis(x, across.at, top, top + tall, across.format),
    yAxis(y, up.at, left, width - 12, up.format),
    marks(x, y),
    axisTitle((left + width) / 2, top + tall + 38, across.title),
    axisTitle(11, top + tall / 2, up.title, false),
  );
  return walkDots(plot, label);
}

/** A dot that chooses a head. */
const headDot = (name, said, look) =>
  s(
    'circle',
    { ...look, 'data-head': name, onclick: () => choose({ head: name, view: '' }) },
    s('title', {}, `${name}: ${said}`),
  );

const swatch = (colour) => s('rect', { x: 1, y: 1, width: 15, height: 10, fill: colour });

/** Names and values, side by side. */
function facts(pairs) {
  return h(
    'dl',
    { class: 'facts' },
    pairs.map(([name, value]) => [h('dt', {}, name), h('dd', {}, value)]),
  );
}
