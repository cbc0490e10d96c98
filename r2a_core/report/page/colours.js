// Colours that stay apart for every kind of colour blindness (Okabe and Ito's, and one blue that deepens), by day, by
// night and on paper.

const NIGHT = matchMedia('(prefers-color-scheme: dark)');
let printing = false;
const isNight = () => NIGHT.matches && !printing;
const BLUE = '#0072b2';
const ORANGE = '#e69f00';
const GREEN = '#009e73';
const VERMILION = '#d55e00';
const SKY = '#56b4e9';
const PURPLE = '#cc79a7';
const SETTING_COLOURS = DATA.setting_colours;

function rgb(hex) {
  return [0, 2, 4].map((at) => parseInt(hex.replace('#', '').slice(at, at + 2), 16));
}

function mix(from, to, share) {
  return from.map((value, channel) => Math.round(value + (to[channel] - value) * share));
}

/** A share 0..1 as [r, g, b] from the page's ground to a strong blue. */
function blues(share) {
  const at = Math.min(Math.max(share, 0), 1);
  const stops = (isNight() ? ['232a35', '2f5f8f', '6fb3e6', 'e6f3ff'] : ['eef3f8', '9ac4e3', '2f7fbc', '08306b']).map(
    rgb,
  );
  const low = Math.min(Math.floor(at * 3), 2);
  return mix(stops[low], stops[low + 1], at * 3 - low);
}

/** -1..1 as [r, g, b]: orange below zero, the page's ground at zero, blue above. */
function diverging(value) {
  const ground = isNight() ? [38, 42, 49] : [246, 246, 244];
  const end = rgb(value < 0 ? (isNight() ? ORANGE : VERMILION) : isNight() ? SKY : BLUE);
  return mix(ground, end, Math.min(Math.abs(value), 1));
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
