// What the tokens of a trace read and what reads them, in one view: blocks of the strongest tokens of each row.

const READERS_AT_MOST = 12; // tokens that read one, of answer and of reasoning
const PART_NAMES = { query: 'question', reasoning: 'reasoning', answer: 'answer', before: 'question and reasoning' };
const PART_ORDER = ['reasoning', 'query', 'answer', 'before'];

/** What rows read of one part of the text. Ends are {from, to, weight}, tokens from..to-1, the strongest first. */
async function blockOf(block, floor) {
  const { part, first_row: first } = block;
  const exact = part !== 'before';
  const names = ['tokens', 'weights', 'outside', ...(exact ? ['mass'] : [])];
  const { tokens, weights, outside, mass } = await allNumbers(picked(block, names));
  const [rows, width] = tokens.shape;
  const share = (value) => (exact ? value / CODES.whole : weightOf(value, floor));
  const end = (place, from) => ({ from, to: from + 1, weight: share(weights.values[place]) });
  const ends = (row) =>
    Array.from({ length: width }, (_, rank) => row * width + rank)
      .filter((place) => tokens.values[place] !== CODES.no_token && weights.values[place])
      .map((place) => end(place, tokens.values[place]));
  const readsOf = (row) => {
    const found = { part, ends: ends(row), outside: share(outside.values[row]) };
    const all = found.ends.reduce((sum, one) => sum + one.weight, found.outside);
    return { ...found, mass: exact ? share(mass.values[row]) : all };
  };
  return {
    ...{ part, exact, width },
    written: Array.from({ length: rows }, (_, row) => first + row + 1), // a row writes the next token
    reads: (token) => (token > first && token <= first + rows ? readsOf(token - 1 - first) : null),
    readBy: (token) => {
      const found = [];
      tokens.values.forEach((one, place) => {
        if (one === token && weights.values[place]) found.push(end(place, first + Math.floor(place / width) + 1));
      });
      return found;
    },
  };
}

/**
 * What one view of a trace links; null where nothing is stored. reads(token): what the model looks at while writing it,
 * by part of the text; none where the token before it was not captured, or the page lacks it. readBy(token): tokens
 * while writing which it is looked at, those of the answer and those of the reasoning.
 */
async function linksOf(trace, at) {
  if (!trace.links?.[at]) return null;
  const blocks = await Promise.all(trace.links[at].map((block) => blockOf(block, trace.floor)));
  blocks.sort((a, b) => PART_ORDER.indexOf(a.part) - PART_ORDER.indexOf(b.part));
  const strongest = (exact, token) =>
    blocks
      .filter((block) => block.exact === exact)
      .flatMap((block) => block.readBy(token))
      .sort((a, b) => b.weight - a.weight)
      .slice(0, READERS_AT_MOST);
  return {
    blocks,
    reads: (token) => blocks.map((block) => block.reads(token)).filter(Boolean),
    readBy: (token) => ({ answer: strongest(true, token), reasoning: strongest(false, token) }),
  };
}

/** The views of a trace in which the page has what reasoning tokens read. */
const readingViews = (trace) =>
  trace.views.filter((_, at) => trace.links?.[at]?.some(({ part }) => part === 'before')).map(viewLabel);
