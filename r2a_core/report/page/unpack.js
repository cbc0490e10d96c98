// What the page carries: JSON in the document, and in it arrays and texts as base64 of zlib streams (see encode.py).

const DATA = JSON.parse(document.getElementById('data').textContent);
const CODES = DATA.codes; // what packed whole numbers stand for
const SEGMENTS = DATA.segments; // name -> label
const TYPED = { f4: Float32Array, f8: Float64Array, u1: Uint8Array, u2: Uint16Array, i4: Int32Array };
const unpacked = new WeakMap();

async function inflate(base64) {
  if (typeof DecompressionStream === 'undefined') {
    throw new Error('this browser cannot unpack compressed data; use one from 2024 or later');
  }
  const bytes = Uint8Array.from(atob(base64), (character) => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream('deflate'));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

function unpackOnce(packed, unpack) {
  if (!unpacked.has(packed)) unpacked.set(packed, unpack());
  return unpacked.get(packed);
}

/** A packed array as {shape, values}; values are row by row. */
function numbers(packed) {
  return unpackOnce(packed, async () => {
    const bytes = await inflate(packed.zlib);
    return { shape: packed.shape, values: new TYPED[packed.dtype](bytes.buffer) };
  });
}

/** Packed arrays by name, each as from `numbers`. */
async function allNumbers(packed) {
  const unpackedArrays = await Promise.all(Object.values(packed).map(numbers));
  return Object.fromEntries(Object.keys(packed).map((name, at) => [name, unpackedArrays[at]]));
}

/** What each of some named arrays holds at one place. */
const valuesAt = (arrays, at) =>
  Object.fromEntries(Object.entries(arrays).map(([name, { values }]) => [name, values[at]]));

/** A packed JSON value. */
function packedJson(packed) {
  return unpackOnce(packed, async () => JSON.parse(new TextDecoder().decode(await inflate(packed.zlib))));
}

/** The record of a section whose named fields have these values. */
function findRecord(section, fields) {
  return DATA[section].find((one) => Object.entries(fields).every(([key, value]) => one[key] === value));
}
