/** jax-js on WebGPU: the model with its own operations, differentiated and compiled by its valueAndGrad and jit. */
import * as jax from "npm:@jax-js/jax@0.1.25";
import { ADAMW, TINY_LLAMA } from "../models.ts";
import {
  adamwFactors,
  gemmOperands,
  initialWeights,
  LENGTH,
  measurePeer,
  rotation,
  sequenceIds,
  SEQUENCES,
  type Weights,
} from "./task.ts";

const { numpy: np, nn } = jax;
type Tensor = jax.Array;
/** Weights as a flat list, in the order of `flatten`: what jit and valueAndGrad take. */
type Flat = Tensor[];

const device = "webgpu";
if (!(await jax.init(device)).includes(device)) throw new Error("jax-js finds no WebGPU adapter");
jax.defaultDevice(device);

const { headDim, hiddenSize, numAttentionHeads: heads, vocabSize, rmsNormEps } = TINY_LLAMA;
const tokens = SEQUENCES * LENGTH;

const initial = initialWeights((values, shape) => {
  return np.array(values).reshape(shape);
});

const flatten = (w: Weights<Tensor>): Flat => [
  w.embedding,
  ...w.layers.flatMap((l) => [l.inputNorm, l.q, l.k, l.v, l.o, l.postNorm, l.gate, l.up, l.down]),
  w.finalNorm,
  w.head,
];
function unflatten(flat: Flat): Weights<Tensor> {
  const layers = [];
  for (let at = 1; at + 2 < flat.length; at += 9) {
    const [inputNorm, q, k, v, o, postNorm, gate, up, down] = flat.slice(at, at + 9);
    layers.push({ inputNorm, q, k, v, o, postNorm, gate, up, down });
  }
  return { embedding: flat[0], layers, finalNorm: flat.at(-2)!, head: flat.at(-1)! };
}

const constant = (values: Float32Array<ArrayBuffer>, shape: number[]) => np.array(values).reshape(shape);
const { cos, sin } = rotation();
const cosines = constant(cos, [1, LENGTH, 1, headDim / 2]);
const sines = constant(sin, [1, LENGTH, 1, headDim / 2]);
const ids = sequenceIds();
const inputs = np.array(Int32Array.from(ids.flatMap((sequence) => sequence.slice(0, -1))));
const targets = np.array(Int32Array.from(ids.flatMap((sequence) => sequence.slice(1))));

/** x w^T. */
const linear = (x: Tensor, w: Tensor) => np.matmul(x, w.transpose());
function rmsNorm(x: Tensor, weight: Tensor): Tensor {
  const mean = np.square(x.ref).mean(-1, { keepdims: true });
  return x.div(np.sqrt(mean.add(rmsNormEps))).mul(weight);
}
function rotate(x: Tensor): Tensor {
  const [first, second] = np.split(x, 2, -1);
  return np.concatenate([
    first.ref.mul(cosines.ref).sub(second.ref.mul(sines.ref)),
    second.mul(cosines.ref).add(first.mul(sines.ref)),
  ], -1);
}

function loss(flat: Flat): Tensor {
  const w = unflatten(flat);
  // A gather's gradient is a scatter, whose kernel Deno's WGSL compiler refuses: the embedding as a product instead.
  let x = np.matmul(nn.oneHot(inputs.ref, vocabSize), w.embedding);
  for (const layer of w.layers) {
    const normed = rmsNorm(x.ref, layer.inputNorm);
    const split = (y: Tensor) => y.reshape([SEQUENCES, LENGTH, heads, headDim]);
    const q = rotate(split(linear(normed.ref, layer.q)));
    const k = rotate(split(linear(normed.ref, layer.k)));
    const v = split(linear(normed, layer.v));
    const attention = nn.dotProductAttention(q, k, v, { isCausal: true }).reshape([tokens, hiddenSize]);
    x = x.add(linear(attention, layer.o));
    const again = rmsNorm(x.ref, layer.postNorm);
    const activated = nn.silu(linear(again.ref, layer.gate)).mul(linear(again, layer.up));
    x = x.add(linear(activated, layer.down));
  }
  const logits = linear(rmsNorm(x, w.finalNorm), w.head);
  const chosen = nn.logSoftmax(logits, -1).mul(nn.oneHot(targets.ref, vocabSize));
  return chosen.sum().mul(-1 / tokens);
}

const { beta1, beta2, epsilon } = ADAMW;
const update = jax.jit(
  (flat: Flat, first: Flat, second: Flat, stepSize: Tensor, root: Tensor, kept: Tensor) => {
    const [value, gradients] = jax.valueAndGrad(loss)(flat.map((w) => w.ref)) as [Tensor, Flat];
    const next = { weights: [] as Flat, first: [] as Flat, second: [] as Flat };
    flat.forEach((w, i) => {
      const g = gradients[i];
      const m = first[i].mul(beta1).add(g.ref.mul(1 - beta1));
      const v = second[i].mul(beta2).add(np.square(g).mul(1 - beta2));
      const decayed = w.ndim > 1 ? w.mul(kept.ref) : w;
      const ratio = m.ref.div(np.sqrt(v.ref).div(root.ref).add(epsilon));
      next.weights.push(decayed.sub(ratio.mul(stepSize.ref)));
      next.first.push(m);
      next.second.push(v);
    });
    for (const scalar of [stepSize, root, kept]) scalar.dispose();
    return [value, next.weights, next.first, next.second] as [Tensor, Flat, Flat, Flat];
  },
);

let weights = flatten(initial);
let first = weights.map((w) => np.zeros(w.shape));
let second = weights.map((w) => np.zeros(w.shape));
const products = {
  nt: jax.jit((a: Tensor, b: Tensor) => np.matmul(a, b.transpose())),
  nn: jax.jit((a: Tensor, b: Tensor) => np.matmul(a, b)),
  tn: jax.jit((a: Tensor, b: Tensor) => np.matmul(a.transpose(), b)),
};

await measurePeer("jax-js 0.1.25, webgpu", {
  async gemm({ layout, size }, runs) {
    const [a, b] = gemmOperands(size).map((values) => np.array(values).reshape([size, size]));
    await jax.blockUntilReady([a, b]);
    const start = performance.now();
    const results = Array.from({ length: runs }, () => products[layout](a.ref, b.ref));
    await jax.blockUntilReady(results);
    const seconds = (performance.now() - start) / 1000;
    const c = await results.pop()!.data();
    for (const array of [a, b, ...results]) array.dispose();
    return { seconds, c: c as ArrayLike<number> };
  },
  async step(t) {
    const { stepSize, rootCorrection2, kept } = adamwFactors(t);
    const scalar = (value: number) => np.array(Float32Array.of(value)).reshape([]);
    let value: Tensor;
    [value, weights, first, second] = update(
      weights,
      first,
      second,
      scalar(stepSize),
      scalar(rootCorrection2),
      scalar(kept),
    );
    await jax.blockUntilReady([...weights, ...first, ...second]);
    return (await value.data())[0] as number;
  },
});
