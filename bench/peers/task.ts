/** What every peer is given: the same products, and the same training step from the same weights on the same tokens. */
import type { Pair } from "../../lib/data/pair.ts";
import { normal, uniform } from "../../lib/random.ts";
import { ropeTable } from "../../lib/graph/rope_table.ts";
import { median } from "../harness.ts";
import { ADAMW, INITIALIZER_RANGE, randomIds, TINY_LLAMA } from "../models.ts";

export const SEQUENCES = 4;
/** Tokens of each sequence that go through the model; one more is the last one's label. */
export const LENGTH = 128;
export const LEARNING_RATE = 1e-3;
/** Steps whose losses are compared; the time of the first is not counted, it compiles. */
export const STEPS = 6;

const { vocabSize, hiddenSize, intermediateSize, numHiddenLayers } = TINY_LLAMA;

/** Ids of each sequence, LENGTH + 1 of them. */
export function sequenceIds(): number[][] {
  return Array.from({ length: SEQUENCES }, (_, i) => randomIds(LENGTH + 1, vocabSize, 100 + i));
}

/** The sequences for our own trainer: every token but the first is a label. */
export function tinySequences(): Pair[] {
  return sequenceIds().map((ids, i) => ({
    chosen: { ids, promptLength: 1 },
    truncated: false,
    where: `sequence ${i}`,
  }));
}

export interface Layer<T> {
  inputNorm: T; // [hidden]
  q: T; // [hidden, hidden]
  k: T;
  v: T;
  o: T;
  postNorm: T; // [hidden]
  gate: T; // [intermediate, hidden]
  up: T;
  down: T; // [hidden, intermediate]
}

/** The tiny Llama's weights, matrices as [outputs, inputs]. */
export interface Weights<T> {
  embedding: T; // [vocabulary, hidden]
  layers: Layer<T>[];
  finalNorm: T;
  head: T; // [vocabulary, hidden]
}

/** The weights that `Parameters.initialize` draws: matrices in the order of the model, norms of 1. */
export function initialWeights<T>(
  tensor: (values: Float32Array<ArrayBuffer>, shape: number[]) => T,
): Weights<T> {
  const next = normal(1);
  const matrix = (rows: number, columns: number) =>
    tensor(Float32Array.from({ length: rows * columns }, () => next() * INITIALIZER_RANGE), [rows, columns]);
  const norm = () => tensor(new Float32Array(hiddenSize).fill(1), [hiddenSize]);
  return {
    embedding: matrix(vocabSize, hiddenSize),
    layers: Array.from({ length: numHiddenLayers }, () => ({
      inputNorm: norm(),
      q: matrix(hiddenSize, hiddenSize),
      k: matrix(hiddenSize, hiddenSize),
      v: matrix(hiddenSize, hiddenSize),
      o: matrix(hiddenSize, hiddenSize),
      postNorm: norm(),
      gate: matrix(intermediateSize, hiddenSize),
      up: matrix(intermediateSize, hiddenSize),
      down: matrix(hiddenSize, intermediateSize),
    })),
    finalNorm: norm(),
    head: matrix(vocabSize, hiddenSize),
  };
}

/** A square product: `nt` is C = A B^T, `nn` is A B, `tn` is A^T B. */
export interface Product {
  layout: "nt" | "nn" | "tn";
  size: number;
}
export const PRODUCTS: Product[] = [
  { layout: "nt", size: 512 },
  { layout: "nt", size: 1024 },
  { layout: "nn", size: 1024 },
  { layout: "tn", size: 1024 },
];
export const nameOf = ({ layout, size }: Product) => `${layout} ${size}`;

/** A and B of a product: uniform in [-0.5, 0.5). */
export function gemmOperands(size: number): [Float32Array<ArrayBuffer>, Float32Array<ArrayBuffer>] {
  const next = uniform(size);
  const matrix = () => Float32Array.from({ length: size * size }, () => next() - 0.5);
  return [matrix(), matrix()];
}

/** Largest difference of some elements of `c` from float64 sums, relative to the largest of those sums. */
export function gemmError({ layout, size }: Product, c: ArrayLike<number>): number {
  if (c.length !== size * size) throw new Error(`expected ${size * size} elements, found ${c.length}`);
  const [a, b] = gemmOperands(size);
  const at = (transposed: boolean, row: number, column: number) =>
    transposed ? column * size + row : row * size + column;
  let [difference, largest] = [0, 0];
  for (let sample = 0; sample < 200; sample++) {
    const i = sample * 37 % size;
    const j = sample * 101 % size;
    let sum = 0;
    for (let k = 0; k < size; k++) sum += a[at(layout === "tn", i, k)] * b[at(layout === "nt", k, j)];
    difference = Math.max(difference, Math.abs(sum - c[i * size + j]));
    largest = Math.max(largest, Math.abs(sum));
  }
  return difference / largest;
}

/** Cosines and sines of the rotation, [LENGTH, headDim / 2] each. */
export function rotation(): { cos: Float32Array<ArrayBuffer>; sin: Float32Array<ArrayBuffer> } {
  const half = TINY_LLAMA.headDim / 2;
  const table = ropeTable(TINY_LLAMA.rope, LENGTH);
  const columns = (first: number) =>
    Float32Array.from(
      { length: LENGTH * half },
      (_, i) => table[Math.floor(i / half) * 2 * half + first + i % half],
    );
  return { cos: columns(0), sin: columns(half) };
}

/** AdamW's factors at step `t` (from 1), whose bias corrections change from step to step. */
export function adamwFactors(t: number): { stepSize: number; rootCorrection2: number; kept: number } {
  return {
    stepSize: LEARNING_RATE / (1 - ADAMW.beta1 ** t),
    rootCorrection2: Math.sqrt(1 - ADAMW.beta2 ** t),
    kept: 1 - LEARNING_RATE * ADAMW.weightDecay,
  };
}

/** What a peer measures. */
export interface Peer {
  /** A product `runs` times: seconds, and the elements of C. */
  gemm(product: Product, runs: number): Promise<{ seconds: number; c: ArrayLike<number> }>;
  /** One optimizer step (from 1), waited for: its loss before the update. */
  step(t: number): Promise<number>;
}

/** What a peer prints, a line of JSON. */
export interface PeerResult {
  name: string;
  /** GFLOP/s, and the error against float64, by the product's name. */
  gemm: Record<string, { gflops: number; error: number }>;
  step: { tokensPerSecond: number; losses: number[] };
}

/** Measures a peer and prints its result. */
export async function measurePeer(name: string, peer: Peer): Promise<void> {
  const gemm: PeerResult["gemm"] = {};
  for (const product of PRODUCTS) {
    const error = gemmError(product, (await peer.gemm(product, 1)).c);
    const once = (await peer.gemm(product, 1)).seconds;
    const runs = Math.max(1, Math.ceil(0.8 / once));
    const seconds = [];
    for (let i = 0; i < 3; i++) seconds.push((await peer.gemm(product, runs)).seconds / runs);
    gemm[nameOf(product)] = { gflops: 2 * product.size ** 3 / median(seconds) / 1e9, error };
  }
  const losses: number[] = [];
  const seconds: number[] = [];
  for (let t = 1; t <= STEPS; t++) {
    const start = performance.now();
    losses.push(await peer.step(t));
    seconds.push((performance.now() - start) / 1000);
  }
  const result: PeerResult = {
    name,
    gemm,
    step: { tokensPerSecond: SEQUENCES * LENGTH / median(seconds.slice(1)), losses },
  };
  console.log(JSON.stringify(result));
}
