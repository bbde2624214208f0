/**
 * What every kernel file is prefixed with: the row count that it works on, its constants, and the element type `E`,
 * which is `vec4f` where all row lengths are multiples of 4 and `f32` elsewhere, so that one kernel text serves any
 * size.
 */

/** Floats in one element: 4 where every one of `lengths` can be cut into vec4s, otherwise 1. */
export function elementWidth(...lengths: number[]): 1 | 4 {
  return lengths.every((length) => length % 4 === 0) ? 4 : 1;
}

const ELEMENT = {
  4: `alias E = vec4f;
fn total(e: E) -> f32 { return (e.x + e.y) + (e.z + e.w); }
fn product(a: E, b: E) -> f32 { return dot(a, b); }
fn exp_element(x: E) -> E { return exp_accurate4(x); }`,
  1: `alias E = f32;
fn total(e: E) -> f32 { return e; }
fn product(a: E, b: E) -> f32 { return a * b; }
fn exp_element(x: E) -> E { return exp_accurate(x); }`,
};

// exp as 2^n * exp(r), |r| <= ln(2)/2, by Cephes' polynomial (expf): drivers' exp is off by up to 1.1e-6, which would
// be the largest error of a whole training step. 0 below -87, where the result would not be normal.
const ACCURATE_EXP = `
fn exp_accurate4(x: vec4f) -> vec4f {
  let n = vec4i(round(max(x, vec4f(-87.0)) * 1.44269504));
  // ln(2) in two parts, the first exact times n. Not by fma: Mesa then adds up the parts, and r is off by 4e-6.
  let r = (x - vec4f(n) * 0.693359375) + vec4f(n) * 2.12194440e-4;
  var p = fma(r, vec4f(1.9875691500e-4), vec4f(1.3981999507e-3));
  p = fma(p, r, vec4f(8.3334519073e-3));
  p = fma(p, r, vec4f(4.1665795894e-2));
  p = fma(p, r, vec4f(1.6666665459e-1));
  p = fma(p, r, vec4f(5.0000001201e-1));
  p = fma(p, r * r, r) + 1.0;
  return select(p * bitcast<vec4f>(vec4u(n + 127) << vec4u(23u)), vec4f(), x < vec4f(-87.0));
}
fn exp_accurate(x: f32) -> f32 { return exp_accurate4(vec4f(x)).x; }`;

// tanh by Cephes' polynomial (tanhf) near 0, where 1 - e would cancel, and elsewhere by an exp that cannot overflow:
// drivers' tanh is NaN beyond 45 on some, and off by 1.4e-7 of 1 near 0 on others.
const ACCURATE_TANH = `
fn tanh_accurate4(x: vec4f) -> vec4f {
  let z = x * x;
  var p = fma(z, vec4f(-5.70498872745e-3), vec4f(2.06390887954e-2));
  p = fma(p, z, vec4f(-5.37397155531e-2));
  p = fma(p, z, vec4f(1.33314422036e-1));
  p = fma(p, z, vec4f(-3.33332819422e-1));
  let e = exp_accurate4(-2.0 * abs(x));
  return select(sign(x) * ((1.0 - e) / (1.0 + e)), fma(p * z, x, x), abs(x) < vec4f(0.625));
}
fn tanh_accurate(x: f32) -> f32 { return tanh_accurate4(vec4f(x)).x; }`;

// Grids of more than 65,535 workgroups spill into y.
const FLAT = `
fn flat_index(group: vec3u, groups: vec3u, local: u32) -> u32 { return (group.y * groups.x + group.x) * 64u + local; }`;

/** The element type of `width` floats and the functions of it. */
export const elementSource = (width: 1 | 4): string => ELEMENT[width] + ACCURATE_EXP;

/** The texts of each source, by constants and width: layers have the same, and a new text is slow to look up. */
const known = new Map<string, Map<string, string>>();

/** Prefixes `source` with `const` lines for `constants`, the element type of `width` floats and shared functions. */
export function withPrelude(source: string, constants: Record<string, number>, width: 1 | 4 = 1): string {
  const key = `${width} ${JSON.stringify(constants)}`;
  const texts = known.get(source) ?? new Map<string, string>();
  const text = texts.get(key) ?? textOf(source, constants, width);
  known.set(source, texts.set(key, text));
  return text;
}

function textOf(source: string, constants: Record<string, number>, width: 1 | 4): string {
  const lines = Object.entries(constants).map(([name, value]) =>
    Number.isInteger(value) && !name.endsWith("_F")
      ? `const ${name} = ${value}u;`
      : `const ${name} = f32(${value});`
  );
  const tanh = source.includes("tanh_accurate") ? ACCURATE_TANH : "";
  return `struct Rows { count: u32, accumulate: u32, scale: f32, key: u32 }\n${lines.join("\n")}\n${
    elementSource(width)
  }${tanh}${FLAT}\n${source}`;
}
