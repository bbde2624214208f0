/**
 * The dynamic map of bitsandbytes (Dettmers, "8-Bit Approximations for Parallelism in Deep Learning", arXiv
 * 1511.04561; its `create_dynamic_map`): what a byte stands for between -1 and 1, or 0 and 1. For each power of ten
 * from 1e-6 to 1 there are twice as many values between a tenth of it and it as for the one below: the middles of
 * cells of one width. 0 and 1 are there too.
 */

const f32 = Math.fround;
const DECADES = 7;

/** Values of the lowest decade: half the bytes of the signed map are negative. */
const cellsOf = (signed: boolean) => signed ? 1 : 2;

/** The values from 0 to 1 in ascending order: 256, or the 129 whose negatives, but for 1's, are there too. */
function magnitudes(signed: boolean): Float32Array<ArrayBuffer> {
  const values = [0, 1];
  for (let decade = 0; decade < DECADES; decade++) {
    const cells = cellsOf(signed) * 2 ** decade;
    const step = f32(f32(1 - f32(0.1)) / cells);
    // As PyTorch's linspace: from either end to the middle, each rounded once.
    const border = (i: number) =>
      i < (cells + 1) >> 1 ? f32(f32(0.1) + step * i) : f32(1 - step * (cells - i));
    for (let i = 0; i < cells; i++) {
      const middle = f32(f32(border(i) + border(i + 1)) / 2);
      values.push(f32(f32(10 ** (decade - 6)) * middle));
    }
  }
  return new Float32Array(values).sort();
}

/** What the 256 bytes stand for, in ascending order. */
export function dynamicMap(signed: boolean): Float32Array<ArrayBuffer> {
  const positive = magnitudes(signed);
  return signed
    ? Float32Array.of(...positive.slice(1, -1).map((value) => -value), ...positive).sort()
    : positive;
}

/** Between which of its neighbours a number falls. */
const borders = (values: Float32Array) =>
  Float32Array.from({ length: values.length - 1 }, (_, i) => f32(f32(values[i] + values[i + 1]) / 2));

const SIGNED = magnitudes(true);
const UNSIGNED = magnitudes(false);
const TABLES = [SIGNED, borders(SIGNED), UNSIGNED, borders(UNSIGNED)];
const [, SIGNED_BORDERS, UNSIGNED_AT, UNSIGNED_BORDERS] = TABLES.map((_, i) =>
  TABLES.slice(0, i).reduce((sum, { length }) => sum + length, 0)
);

/** What `DYNAMIC_MAP` reads in its array `map`. */
export const dynamicTables: Float32Array<ArrayBuffer> = Float32Array.from(
  TABLES.flatMap((table) => [...table]),
);

/** A decade of a map for WGSL: its lower end, cells a unit, the place of its first value, and how many there are. */
function decadeSource(signed: boolean, decade: number): string {
  const cells = cellsOf(signed) * 2 ** decade;
  return `vec4f(${10 ** (decade - 7)}, ${cells / (0.9 * 10 ** (decade - 6))}, ${
    cells - cellsOf(signed) + 1
  }.0, ${cells}.0)`;
}

/**
 * The place of the value nearest to `a`, among those from 0 to 1: by the decade's cells, then by the borders beside
 * it.
 */
const nearestSource = (name: string, signed: boolean, bordersAt: number) => `
fn nearest_${name}(a: f32) -> u32 {
  var decade = ${decadeSource(signed, 0)};
${
  Array.from({ length: DECADES - 1 }, (_, i) =>
    `  if (a >= ${10 ** (i - 6)}) { decade = ${decadeSource(signed, i + 1)}; }`).join("\n")
}
  let cell = clamp((a - decade.x) * decade.y, 0.0, decade.w - 1.0);
  let place = u32(decade.z) + u32(cell);
  if (a <= map[${bordersAt}u + place - 1u]) { return place - 1u; }
  return place + select(0u, 1u, a > map[${bordersAt}u + place]);
}`;

/**
 * WGSL that reads and writes words of four bytes: `unpack_signed(word)`, `unpack_unsigned(word)`, and
 * `pack_signed(values)`, `pack_unsigned(values)` of numbers from -1 or 0 to 1, each to the nearest. It reads `map`,
 * an array of `dynamicTables`.
 */
export const DYNAMIC_MAP = `
fn bytes_of(word: u32) -> vec4u { return (vec4u(word) >> vec4u(0u, 8u, 16u, 24u)) & vec4u(255u); }
fn word_of(bytes: vec4u) -> u32 { return bytes.x | (bytes.y << 8u) | (bytes.z << 16u) | (bytes.w << 24u); }
fn unpack_signed(word: u32) -> vec4f {
  let place = vec4i(bytes_of(word)) - 127;
  let at = vec4u(abs(place));
  let values = vec4f(map[at.x], map[at.y], map[at.z], map[at.w]);
  return select(values, -values, place < vec4i());
}
fn unpack_unsigned(word: u32) -> vec4f {
  let at = bytes_of(word) + ${UNSIGNED_AT}u;
  return vec4f(map[at.x], map[at.y], map[at.z], map[at.w]);
}
${nearestSource("signed", true, SIGNED_BORDERS)}
${nearestSource("unsigned", false, UNSIGNED_BORDERS)}
fn pack_signed(values: vec4f) -> u32 {
  let a = abs(values);
  let place = vec4u(nearest_signed(a.x), nearest_signed(a.y), nearest_signed(a.z), nearest_signed(a.w));
  // -1 is not there: what is next to it stands for it.
  return word_of(select(127u + place, 127u - min(place, vec4u(127u)), values < vec4f()));
}
fn pack_unsigned(values: vec4f) -> u32 {
  return word_of(vec4u(
    nearest_unsigned(values.x), nearest_unsigned(values.y), nearest_unsigned(values.z), nearest_unsigned(values.w)));
}`;
