/**
 * What a product does to its sums as it stores them, so that no later pass has to read them again.
 *
 * Some epilogues need two columns of a row at once: they are `half` apart, gate and up of SwiGLU, or the two halves of what
 * turns of a head.
 * Such a product is cut along pairs of columns: pair `p` is column `p + (p / half) * half` and the one `half` further on,
 * and the first half of a thread's registers holds first columns, the second half their partners.
 */
import { range } from "./emit.ts";

/** `swiglu`: C = [gate, up], and activated = silu(gate) * up beside it. `swiglu_backward`: the sums are d_activated. `rope`: heads of C are turned. */
export type Epilogue = "none" | "residual" | "swiglu" | "swiglu_backward" | "rope";

/** Whether a thread computes pairs of columns. */
export const isPaired = (epilogue: Epilogue): boolean => epilogue === "swiglu" || epilogue === "rope";

/** WGSL of the bindings from 5 on, in vectors of `element`. Paired epilogues and `swiglu_backward` take `vec4f` alone. */
const BINDINGS: Record<Epilogue, (element: string) => string> = {
  none: () => "",
  residual: (element) => `@group(0) @binding(5) var<storage, read> residual: array<${element}>;`,
  swiglu: () => "@group(0) @binding(5) var<storage, read_write> activated: array<vec4f>;",
  swiglu_backward: () => "@group(0) @binding(5) var<storage, read_write> gate_up: array<vec4f>;",
  rope: () =>
    `@group(0) @binding(5) var<storage, read> spans: array<vec4u>;
@group(0) @binding(6) var<storage, read> cos_sin: array<vec4f>;`,
};

/** WGSL of an epilogue's bindings, and of `store` or, for pairs, `store_pair` and `first_of_pair`. */
export function epilogueSource(epilogue: Epilogue, aligned: boolean): string {
  const bindings = BINDINGS[epilogue](aligned ? "vec4f" : "f32");
  if (isPaired(epilogue)) return `${bindings}\n${PAIRS}\n${STORE_PAIR[epilogue as "swiglu" | "rope"]}`;
  return `${bindings}\n${aligned ? storeAligned(epilogue) : storeUnaligned(epilogue)}`;
}

const added = (epilogue: Epilogue, index: string) =>
  `if (adds()) { v += c[${index}]; }${epilogue === "residual" ? ` v += residual[${index}];` : ""}`;

/** Four floats of a row of C. Aligned rows have room up to a multiple of 4: the columns past N are padding. */
const storeAligned = (epilogue: Epilogue) => `
fn store(M: u32, m: u32, n: u32, value: vec4f) {
  if (m >= M || n >= size.n) { return; }
  let i = (m * size.ldc + n) >> 2u;
  var v = value;
  ${added(epilogue, "i")}
${epilogue === "swiglu_backward" ? SWIGLU_BACKWARD : ""}
  c[i] = v;
}`;

// As swiglu_backward.wgsl: [gate, up] becomes its gradient, and C the activated values again.
const SWIGLU_BACKWARD = `
  let at = (m * 2u * size.half + n) >> 2u;
  let gate = gate_up[at];
  let up = gate_up[at + (size.half >> 2u)];
  let sigmoid = vec4f(1.0) / (exp(-gate) + 1.0);
  let silu = gate * sigmoid;
  gate_up[at] = v * up * (sigmoid + silu * (vec4f(1.0) - sigmoid));
  gate_up[at + (size.half >> 2u)] = v * silu;
  v = silu * up;`;

const storeUnaligned = (epilogue: Epilogue) => `
fn store(M: u32, m: u32, n: u32, value: vec4f) {
  if (m >= M) { return; }
  for (var l = 0u; l < 4u; l += 1u) {
    if (n + l < size.n) {
      let i = m * size.ldc + n + l;
      var v = value[l];
      ${added(epilogue, "i")}
      c[i] = v;
    }
  }
}`;

const PAIRS = `
// The row of B that gives the first column of pair p; pairs past the last read that one, and are never stored.
fn first_of_pair(p: u32) -> u32 {
  let q = min(p, size.n / 2u - 1u);
  return q + q / size.half * size.half;
}`;

/** Stores four pairs from pair `p` on; they lie in one half. */
const STORE_PAIR = {
  swiglu: `
fn store_pair(M: u32, m: u32, p: u32, gate: vec4f, up: vec4f) {
  if (m >= M || p >= size.n / 2u) { return; }
  let i = (m * size.ldc + p) >> 2u;
  c[i] = gate;
  c[i + (size.half >> 2u)] = up;
  activated[(m * size.half + p) >> 2u] = gate / (exp(-gate) + 1.0) * up;
}`,
  rope: `
fn store_pair(M: u32, m: u32, p: u32, a: vec4f, b: vec4f) {
  if (m >= M || p >= size.n / 2u) { return; }
  let half = size.half;
  let n = p + p / half * half;
  let i = (m * size.ldc + n) >> 2u;
  if (n >= size.rotated || n % size.head >= 2u * half) {
    c[i] = a;
    c[i + (half >> 2u)] = b;
    return;
  }
  // As rope.wgsl: the last word of a span is the token's position.
  let entry = (spans[size.first + m].w * 2u * half + p % half) >> 2u;
  let cosine = cos_sin[entry];
  let sine = cos_sin[entry + (half >> 2u)];
  c[i] = a * cosine - b * sine;
  c[i + (half >> 2u)] = b * cosine + a * sine;
}`,
};

/** The lines that store a thread's registers, `c{row}_{group of four columns}`: `at(i, j)` is where that group begins. */
export function stores(
  epilogue: Epilogue,
  rows: number,
  groups: number,
  at: (row: number, group: number) => { m: string; n: string },
): string {
  const half = isPaired(epilogue) ? groups / 2 : groups;
  return range(rows).flatMap((i) =>
    range(half).map((j) => {
      const { m, n } = at(i, j);
      return isPaired(epilogue)
        ? `  store_pair(M, ${m}, ${n}, c${i}_${j}, c${i}_${j + half});`
        : `  store(M, ${m}, ${n}, c${i}_${j});`;
    })
  ).join("\n");
}
