/**
 * What a product does to its sums as it stores them, so that no later pass has to read them again.
 *
 * Some epilogues need two columns of a row at once: they are `half` apart, gate and up of a gated unit, or the two
 * halves of what turns of a head. Such a product is cut along pairs of columns: pair `p` is column `p + (p / half) *
 * half` and the one `half` further on, and the first half of a thread's registers holds first columns, the second
 * half their partners.
 */
import { type Activation, activationSource4 } from "./activation.ts";
import { lines, range } from "./emit.ts";

/**
 * What comes last: `glu` leaves C = [gate, up] and makes act(gate) * up beside it, `activation` leaves C and makes
 * act(C) beside it; of `glu_backward` and `activation_backward` the sums are the gradient of those. `rope`: heads of
 * C are turned. `part`: C has the sums of a part of the inner dimension, behind those of the parts before
 * (`gemm_parts.ts`).
 */
export type EpilogueKind =
  | "none"
  | "residual"
  | "glu"
  | "glu_backward"
  | "activation"
  | "activation_backward"
  | "rope"
  | "part";

/**
 * In this order: the bias is added to the sums, that is scaled, added to C where the product adds, and then comes
 * `kind`.
 */
export interface Epilogue {
  bias?: boolean;
  kind: EpilogueKind;
  /** Of the four that need a function. */
  activation?: Activation;
}

/** Whether a thread computes pairs of columns. */
export const isPaired = ({ kind }: Epilogue): boolean => kind === "glu" || kind === "rope";

/**
 * The variables from binding 5 on; the bias, if there is one, is the first. `element` is `vec4f` for all kinds but
 * two.
 */
const BINDINGS: Record<EpilogueKind, (element: string) => string[]> = {
  none: () => [],
  residual: (element) => [`<storage, read> residual: array<${element}>`],
  glu: () => ["<storage, read_write> activated_c: array<vec4f>"],
  glu_backward: () => ["<storage, read_write> gate_up: array<vec4f>"],
  activation: () => ["<storage, read_write> activated_c: array<vec4f>"],
  activation_backward: () => ["<storage, read_write> before: array<vec4f>"],
  rope: () => ["<storage, read> spans: array<vec4u>", "<storage, read> cos_sin: array<vec4f>"],
  part: () => [],
};

const FIRST_BINDING = 5;
/** The first binding that an epilogue leaves free. */
export const bindingAfter = ({ bias, kind }: Epilogue): number =>
  FIRST_BINDING + (bias ? 1 : 0) + BINDINGS[kind]("").length;

/**
 * WGSL of an epilogue's bindings, from `first` on, and functions, and of `store` or, for pairs, `store_pair` and
 * `first_of_pair`.
 */
export function epilogueSource(epilogue: Epilogue, aligned: boolean, first = FIRST_BINDING): string {
  const { bias, kind, activation } = epilogue;
  const variables = [
    ...(bias ? ["<storage, read> bias: array<f32>"] : []),
    ...BINDINGS[kind](aligned ? "vec4f" : "f32"),
  ];
  return [
    lines(variables.length, (i) => `@group(0) @binding(${first + i}) var${variables[i]};`),
    bias ? BIAS : "",
    activation ? activationSource4(activation) : "",
    isPaired(epilogue)
      ? PAIRS + STORE_PAIR[kind as "glu" | "rope"]
      : kind === "part"
      ? STORE_PART
      : aligned
      ? storeAligned(kind)
      : storeUnaligned(kind),
  ].join("\n");
}

// What is read past the last column is never stored.
const BIAS = `
fn bias4(n: u32) -> vec4f {
  let last = size.n - 1u;
  return vec4f(bias[min(n, last)], bias[min(n + 1u, last)], bias[min(n + 2u, last)], bias[min(n + 3u, last)]);
}`;

const added = (kind: EpilogueKind, index: string) =>
  `if (adds()) { v += c[${index}]; }${kind === "residual" ? ` v += residual[${index}];` : ""}`;

/** Four floats of a row of C. Aligned rows have room up to a multiple of 4: the columns past N are padding. */
const storeAligned = (kind: EpilogueKind) => `
fn store(M: u32, m: u32, n: u32, value: vec4f) {
  if (m >= M || n >= size.n) { return; }
  let i = (m * size.ldc + n) >> 2u;
  var v = value * size.scale;
  ${added(kind, "i")}
${BEFORE_STORING[kind] ?? ""}
  c[i] = v;
}`;

/**
 * What stands beside C, of the same rows but for [gate, up]; backward as glu_backward.wgsl and
 * activation_backward.wgsl.
 */
const BEFORE_STORING: Partial<Record<EpilogueKind, string>> = {
  activation: "  activated_c[i] = activate(v);",
  activation_backward: `
  let at = activated(before[i]);
  before[i] = v * at.slope;
  v = at.value;`,
  glu_backward: `
  let at = (m * 2u * size.half + n) >> 2u;
  let gate = activated(gate_up[at]);
  let up = gate_up[at + (size.half >> 2u)];
  gate_up[at] = v * up * gate.slope;
  gate_up[at + (size.half >> 2u)] = v * gate.value;
  v = gate.value * up;`,
};

const storeUnaligned = (kind: EpilogueKind) => `
fn store(M: u32, m: u32, n: u32, value: vec4f) {
  if (m >= M) { return; }
  for (var l = 0u; l < 4u; l += 1u) {
    if (n + l < size.n) {
      let i = m * size.ldc + n + l;
      var v = value[l] * size.scale;
      ${added(kind, "i")}
      c[i] = v;
    }
  }
}`;

const STORE_PART = `
var<private> part: u32;
fn store(M: u32, m: u32, n: u32, value: vec4f) {
  if (m >= M || n >= size.n) { return; }
  c[((part * size.m + m) * size.ldc + n) >> 2u] = value;
}`;

const PAIRS = `
// The row of B that gives the first column of pair p; pairs past the last read that one, and are never stored.
fn first_of_pair(p: u32) -> u32 {
  let q = min(p, size.n / 2u - 1u);
  return q + q / size.half * size.half;
}`;

/** Stores four pairs from pair `p` on; they lie in one half. */
const STORE_PAIR = {
  glu: `
fn store_pair(M: u32, m: u32, p: u32, first: vec4f, second: vec4f) {
  if (m >= M || p >= size.n / 2u) { return; }
  let i = (m * size.ldc + p) >> 2u;
  var gate = first * size.scale;
  var up = second * size.scale;
  if (adds()) {
    gate += c[i];
    up += c[i + (size.half >> 2u)];
  }
  c[i] = gate;
  c[i + (size.half >> 2u)] = up;
  activated_c[(m * size.half + p) >> 2u] = activate(gate) * up;
}`,
  rope: `
fn store_pair(M: u32, m: u32, p: u32, first: vec4f, second: vec4f) {
  if (m >= M || p >= size.n / 2u) { return; }
  var a = first * size.scale;
  var b = second * size.scale;
  let half = size.half;
  let n = p + p / half * half;
  let i = (m * size.ldc + n) >> 2u;
  if (adds()) {
    a += c[i];
    b += c[i + (half >> 2u)];
  }
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

/**
 * The lines that store a thread's registers, `c{row}_{group of four columns}`: `at(i, j)` is where that group begins.
 */
export function stores(
  epilogue: Epilogue,
  rows: number,
  groups: number,
  at: (row: number, group: number) => { m: string; n: string },
): string {
  const paired = isPaired(epilogue);
  const pairs = paired ? groups / 2 : groups;
  // The bias of a column is read once for all rows.
  const biases = range(epilogue.bias ? pairs : 0).flatMap((j) => {
    const { n } = at(0, j);
    if (!paired) return [`  let bias${j} = bias4(${n});`];
    return [
      `  let first${j} = first_of_pair(${n});`,
      `  let bias${j} = bias4(first${j});`,
      `  let bias${j + pairs} = bias4(first${j} + size.half);`,
    ];
  });
  const sums = (i: number, j: number) => `c${i}_${j}${epilogue.bias ? ` + bias${j}` : ""}`;
  const stored = range(rows).flatMap((i) =>
    range(pairs).map((j) => {
      const { m, n } = at(i, j);
      return paired
        ? `  store_pair(M, ${m}, ${n}, ${sums(i, j)}, ${sums(i, j + pairs)});`
        : `  store(M, ${m}, ${n}, ${sums(i, j)});`;
    })
  );
  return [...biases, ...stored].join("\n");
}
