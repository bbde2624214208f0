/** TensorFlow.js on WebGPU: the model with its own operations, differentiated by its variableGrads. */
import * as tf from "npm:@tensorflow/tfjs-core@4.22.0";
// The whole of tfjs registers the gradients; its core alone does not.
import "npm:@tensorflow/tfjs@4.22.0";
import "npm:@tensorflow/tfjs-backend-webgpu@4.22.0";
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
} from "./task.ts";

if (!await tf.setBackend("webgpu")) throw new Error("tfjs finds no WebGPU adapter");
await tf.ready();

const { headDim, hiddenSize, numAttentionHeads: heads, vocabSize, rmsNormEps } = TINY_LLAMA;
const tokens = SEQUENCES * LENGTH;

const variables: tf.Variable[] = [];
const weights = initialWeights((values, shape) => {
  const variable = tf.variable(tf.tensor(values, shape));
  variables.push(variable);
  return variable;
});

const { cos, sin } = rotation();
const cosines = tf.tensor(cos, [1, LENGTH, 1, headDim / 2]);
const sines = tf.tensor(sin, [1, LENGTH, 1, headDim / 2]);
const ids = sequenceIds();
const inputs = tf.tensor1d(ids.flatMap((sequence) => sequence.slice(0, -1)), "int32");
const targetIds = tf.tensor1d(ids.flatMap((sequence) => sequence.slice(1)), "int32");
const targets = tf.cast(tf.oneHot(targetIds, vocabSize), "float32");
/** 0 where a query sees a key, very negative elsewhere. */
const mask = tf.tensor2d(
  Array.from({ length: LENGTH }, (_, q) => Array.from({ length: LENGTH }, (_, k) => k <= q ? 0 : -1e30)),
);

/** x w^T. */
const linear = (x: tf.Tensor, w: tf.Tensor) => tf.matMul(x, w, false, true);
const rmsNorm = (x: tf.Tensor, weight: tf.Tensor) =>
  tf.mul(tf.mul(x, tf.rsqrt(tf.add(tf.mean(tf.square(x), -1, true), rmsNormEps))), weight);
function rotate(x: tf.Tensor): tf.Tensor {
  const [first, second] = tf.split(x, 2, 3);
  return tf.concat([
    tf.sub(tf.mul(first, cosines), tf.mul(second, sines)),
    tf.add(tf.mul(second, cosines), tf.mul(first, sines)),
  ], 3);
}

function loss(): tf.Scalar {
  let x: tf.Tensor = tf.gather(weights.embedding, inputs);
  for (const layer of weights.layers) {
    const normed = rmsNorm(x, layer.inputNorm);
    const split = (y: tf.Tensor) => tf.reshape(y, [SEQUENCES, LENGTH, heads, headDim]);
    const byHead = (y: tf.Tensor) => tf.transpose(y, [0, 2, 1, 3]);
    const q = byHead(rotate(split(linear(normed, layer.q))));
    const k = byHead(rotate(split(linear(normed, layer.k))));
    const v = byHead(split(linear(normed, layer.v)));
    const scores = tf.add(tf.mul(tf.matMul(q, k, false, true), 1 / Math.sqrt(headDim)), mask);
    const attention = tf.reshape(byHead(tf.matMul(tf.softmax(scores), v)), [tokens, hiddenSize]);
    x = tf.add(x, linear(attention, layer.o));
    const again = rmsNorm(x, layer.postNorm);
    const gate = linear(again, layer.gate);
    const activated = tf.mul(tf.mul(gate, tf.sigmoid(gate)), linear(again, layer.up));
    x = tf.add(x, linear(activated, layer.down));
  }
  const logits = linear(rmsNorm(x, weights.finalNorm), weights.head);
  return tf.mul(tf.sum(tf.mul(tf.logSoftmax(logits), targets)), -1 / tokens);
}

const { beta1, beta2, epsilon } = ADAMW;
const moments = variables.map((variable) => ({
  first: tf.variable(tf.zerosLike(variable)),
  second: tf.variable(tf.zerosLike(variable)),
}));

function update(gradients: tf.NamedTensorMap, t: number): void {
  const { stepSize, rootCorrection2, kept } = adamwFactors(t);
  variables.forEach((variable, i) =>
    tf.tidy(() => {
      const { first, second } = moments[i];
      const g = gradients[variable.name];
      first.assign(tf.add(tf.mul(first, beta1), tf.mul(g, 1 - beta1)));
      second.assign(tf.add(tf.mul(second, beta2), tf.mul(tf.square(g), 1 - beta2)));
      const ratio = tf.div(first, tf.add(tf.div(tf.sqrt(second), rootCorrection2), epsilon));
      const decayed = variable.rank > 1 ? tf.mul(variable, kept) : variable;
      variable.assign(tf.sub(decayed, tf.mul(ratio, stepSize)));
    })
  );
}

/** Waits for the GPU: a read of one element, since there is no other way. */
const wait = async (tensor: tf.Tensor) => {
  const element = tf.tidy(() => tf.slice(tf.reshape(tensor, [-1]), 0, 1));
  await element.data();
  element.dispose();
};

await measurePeer("tfjs 4.22.0, webgpu", {
  async gemm({ layout, size }, runs) {
    const [a, b] = gemmOperands(size).map((values) => tf.tensor2d(values, [size, size]));
    await wait(a);
    await wait(b);
    const start = performance.now();
    const product = () => tf.matMul(a, b, layout === "tn", layout === "nt");
    let c = product();
    for (let run = 1; run < runs; run++) {
      c.dispose();
      c = product();
    }
    await wait(c);
    const seconds = (performance.now() - start) / 1000;
    const values = await c.data();
    tf.dispose([a, b, c]);
    return { seconds, c: values };
  },
  async step(t) {
    const { value, grads } = tf.variableGrads(loss);
    update(grads, t);
    const [result] = await value.data();
    await wait(variables[0]);
    tf.dispose([value, grads]);
    return result;
  },
});
