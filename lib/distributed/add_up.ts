/** Numbers that are added up at a time: their sums in float64 stay in the nearest cache. */
const BLOCK = 2048;

/**
 * The sums of `parts`, one after the other as long as they are, taken in their order in float64 and rounded once; they
 * may lie in the place of the first of them.
 *
 * @param begin of the sums, the first that is made.
 * @param end the first that is not made any more.
 */
export function addUp(parts: Float32Array, sums: Float32Array, begin = 0, end = sums.length): void {
  const { length } = sums;
  const count = parts.length / length;
  const all = new Float64Array(BLOCK);
  for (let from = begin; from < end; from += BLOCK) {
    const to = Math.min(from + BLOCK, end);
    const block = all.subarray(0, to - from).fill(0);
    const part = (of: number) => parts.subarray(of * length + from, of * length + to);
    let of = 0;
    // Sums that are fetched and stored once for four: 9 GB/s of 64 parts instead of 5.
    for (; of + 4 <= count; of += 4) addFour(block, part(of), part(of + 1), part(of + 2), part(of + 3));
    if (of + 2 <= count) addTwo(block, part(of), part(of + 1));
    if (count % 2 === 1) addOne(block, part(count - 1));
    const rounded = sums.subarray(from, to);
    for (let i = 0; i < rounded.length; i++) rounded[i] = block[i];
  }
}

function addOne(sums: Float64Array, a: Float32Array): void {
  for (let i = 0; i < a.length; i++) sums[i] += a[i];
}

function addTwo(sums: Float64Array, a: Float32Array, b: Float32Array): void {
  for (let i = 0; i < a.length; i++) sums[i] = sums[i] + a[i] + b[i];
}

function addFour(
  sums: Float64Array,
  a: Float32Array,
  b: Float32Array,
  c: Float32Array,
  d: Float32Array,
): void {
  for (let i = 0; i < a.length; i++) sums[i] = sums[i] + a[i] + b[i] + c[i] + d[i];
}
