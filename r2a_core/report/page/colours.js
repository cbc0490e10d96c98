// Colours that stay apart for every kind of colour blindness (Okabe and Ito's, and one blue that deepens), by day, by
// night and on paper.

const NIGHT = matchMedia('(prefers-color-scheme: dark)');
let printing = false;
const isNight = () => NIGHT.matches && !printing;
const { BLUE, ORANGE, GREEN, VERMILION, SKY, PURPLE } = DATA.colours;
const SETTING_COLOURS = DATA.setting_colours;

function rgb(hex) {
  const value = parseInt(hex.slice(1), 16);
  return [value >> 16, (value >> 8) & 255, value & 255];
}

function mix(from, to, share) {
  return from.map((value, channel) => Math.round(value + (to[channel] - value) * share));
}

/** A share 0..1 as [r, g, b] from the page's ground to a strong blue. */
function blues(share) {
  const at = Math.min(Math.max(share, 0), 1);
  const stops = isNight() ? ['#232a35', '#2f5f8f', '#6fb3e6', '#e6f3ff'] : ['#eef3f8', '#9ac4e3', '#2f7fbc', '#08306b'];
  const low = Math.min(Math.floor(at * 3), 2);
  return mix(rgb(stops[low]), rgb(stops[low + 1]), at * 3 - low);
}

/** -1..1 as [r, g, b]: orange below zero, the page's ground at zero, blue above. */
function diverging(value) {
  const [ground, less, more] = isNight() ? ['#262a31', ORANGE, SKY] : ['#f6f6f4', VERMILION, BLUE];
  return mix(rgb(ground), rgb(value < 0 ? less : more), Math.min(Math.abs(value), 1));
}

const css = ([r, g, b]) => `rgb(${r},${g},${b})`;

/** A colour bar with its ends named. */
function colourBar(label, low, high, colour, low_name = show(low, 1), high_name = show(high, 1)) {
  const steps = 40;
  const bar = s(
    'svg',
    { viewBox: `0 0 ${steps} 1`, preserveAspectRatio: 'none', class: 'ramp', 'aria-hidden': 'true' },
    Array.from({ length: steps }, (_, at) =>
      s('rect', { x: at, y: 0, width: 1.05, height: 1, fill: css(colour(low + (high - low) * (at / (steps - 1)))) }),
    ),
  );
  return h('div', { class: 'legend' }, h('span', {}, label), h('span', {}, low_name), bar, h('span', {}, high_name));
}

/** The colour bar of `diverging`, from -largest to largest. */
const divergingBar = (label, largest, ...names) =>
  colourBar(label, -largest, largest, (value) => diverging(value / largest), ...names);
