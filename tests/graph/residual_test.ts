/** Graphs whose residual stream is read by several branches: gradients that one op may not add to while another reads them. */
import assert from "node:assert/strict";
import { pack, packedSize } from "../../lib/batch/batch.ts";
import { type Gpu, openGpu } from "../../lib/gpu/device.ts";
import { Pipelines, writeTensor } from "../../lib/gpu/program.ts";
import type { Value } from "../../lib/graph/graph.ts";
import { Net } from "../../lib/graph/net.ts";
import { simper } from "../../lib/losses/simper.ts";
import type { ModelConfig } from "../../lib/models/config.ts";
import { type RopeSpec, ropeTable } from "../../lib/models/rope_table.ts";
import { Decoder } from "../../lib/graph/decoder.ts";
import { normal, uniform } from "../../lib/random.ts";
import { assertClose, freshSeed } from "../kernels/harness.ts";
import { pairOf } from "../random_pairs.ts";
import { logProbabilities } from "../reference/log_probabilities.ts";
import { matrix, multiply, transposed } from "../reference/matrix.ts";
import { rope as ropeReference } from "../reference/rope.ts";
import { simper as simperReference } from "../reference/preference_loss.ts";
import { rmsNorm } from "../reference/rms_norm.ts";
import { swiglu } from "../reference/swiglu.ts";

const [VOCABULARY, HIDDEN, INNER, EPSILON] = [50, 8, 12, 1e-5];

/** Branches from a layer's input, in the order in which they are written; each names its norm. */
type Body = (net: Net, x: Value) => Value;

const branch = (net: Net, h: Value, name: string) =>
  net.linear(net.swiglu(net.linear(h, { [`${name}.gate`]: INNER, [`${name}.up`]: INNER })), {
    [`${name}.down`]: HIDDEN,
  });
const norm = (net: Net, x: Value, name: string) => net.rmsNorm(x, name, EPSILON);

const BODIES: Record<string, Body> = {
  "one branch after the other": (net, x) => {
    x = net.add(x, branch(net, norm(net, x, "norm_a"), "a"));
    return net.add(x, branch(net, norm(net, x, "norm_b"), "b"));
  },
  "two branches beside each other, with a norm each": (net, x) => {
    const [a, b] = [branch(net, norm(net, x, "norm_a"), "a"), branch(net, norm(net, x, "norm_b"), "b")];
    return net.add(net.add(x, a), b);
  },
  "two branches beside each other, of one norm": (net, x) => {
    const h = norm(net, x, "norm_a");
    return net.add(net.add(x, branch(net, h, "a")), branch(net, h, "b"));
  },
  "three branches, the last of the sum of two": (net, x) => {
    const y = net.add(
      net.add(x, branch(net, norm(net, x, "norm_a"), "a")),
      branch(net, norm(net, x, "norm_b"), "b"),
    );
    return net.add(y, branch(net, norm(net, x, "norm_c"), "c"));
  },
  // The rotated value is read twice; the second rotation's gradient is the residual's too.
  "rotations by kernels of their own, and a head with everything": (net, x) => {
    const h = net.rope(norm(net, x, "norm_a"), SHAPE, ROPES[0]);
    return net.add(net.add(x, branch(net, h, "a")), net.rope(h, SHAPE, ROPES[1]));
  },
};
/** Two query heads, a key head and a value head of two floats. */
const SHAPE = { heads: 2, keyValueHeads: 1, headDim: 2 };
const ROPES: RopeSpec[] = [
  { type: "default", theta: 100, dimensions: 2, interleaved: false },
  { type: "linear", factor: 2, theta: 100, dimensions: 2, interleaved: true },
];
/** What the head and the embedding of one of the graphs do besides; its labels are in two pieces. */
const WITH_EVERYTHING = "rotations by kernels of their own, and a head with everything";
const EVERYTHING = { scale: Math.sqrt(HIDDEN), logitScale: 0.7, logitSoftcap: 2 };

/** The same in float64, from the values of parameters by name. */
class Reference {
  constructor(readonly parameters: ReadonlyMap<string, Float64Array>, readonly prefix = "") {}
  of = (name: string) => this.parameters.get(`${this.prefix}${name}.weight`)!;
  linear(x: Float64Array, name: string, columns: number): Float64Array {
    const weight = this.of(name);
    return multiply(
      matrix(x, x.length / columns, columns),
      transposed(matrix(weight, weight.length / columns, columns)),
    );
  }
  branch(h: Float64Array, name: string): Float64Array {
    const [gate, up] = ["gate", "up"].map((part) => this.linear(h, `${name}.${part}`, HIDDEN));
    const rows = h.length / HIDDEN;
    const gateUp = Float64Array.from({ length: rows * 2 * INNER }, (_, i) => {
      const [row, column] = [Math.floor(i / (2 * INNER)), i % (2 * INNER)];
      return column < INNER ? gate[row * INNER + column] : up[row * INNER + column - INNER];
    });
    return this.linear(swiglu(gateUp, INNER), `${name}.down`, INNER);
  }
  norm = (x: Float64Array, name: string) => rmsNorm(x, this.of(name), EPSILON).y;
  rope(x: Float64Array, positions: ArrayLike<number>, spec: RopeSpec): Float64Array {
    const shape = { ...SHAPE, heads: 3, width: HIDDEN, interleaved: spec.interleaved };
    return ropeReference(x, positions, ropeTable(spec, 64), shape, "forward");
  }
}
const sum = (x: Float64Array, y: Float64Array) => x.map((value, i) => value + y[i]);

const REFERENCES: Record<
  string,
  (r: Reference, x: Float64Array, positions: ArrayLike<number>) => Float64Array
> = {
  "one branch after the other": (r, x) => {
    x = sum(x, r.branch(r.norm(x, "norm_a"), "a"));
    return sum(x, r.branch(r.norm(x, "norm_b"), "b"));
  },
  "two branches beside each other, with a norm each": (r, x) =>
    sum(sum(x, r.branch(r.norm(x, "norm_a"), "a")), r.branch(r.norm(x, "norm_b"), "b")),
  "two branches beside each other, of one norm": (r, x) => {
    const h = r.norm(x, "norm_a");
    return sum(sum(x, r.branch(h, "a")), r.branch(h, "b"));
  },
  "three branches, the last of the sum of two": (r, x) => {
    const y = sum(sum(x, r.branch(r.norm(x, "norm_a"), "a")), r.branch(r.norm(x, "norm_b"), "b"));
    return sum(y, r.branch(r.norm(x, "norm_c"), "c"));
  },
  [WITH_EVERYTHING]: (r, x, positions) => {
    const h = r.rope(r.norm(x, "norm_a"), positions, ROPES[0]);
    return sum(sum(x, r.branch(h, "a")), r.rope(h, positions, ROPES[1]));
  },
};

function netOf(body: Body, layers: number, everything?: typeof EVERYTHING): Net {
  const net = new Net();
  let x = net.embedding("embed", VOCABULARY, HIDDEN, { scale: everything?.scale });
  for (let l = 0; l < layers; l++) x = net.layer(`layers.${l}`, x, (x) => body(net, x));
  net.labels(x, "norm", EPSILON, { name: "head", rows: VOCABULARY, bias: !!everything }, everything);
  return net;
}

const CONFIG: ModelConfig = {
  modelType: "llama",
  vocabSize: VOCABULARY,
  hiddenSize: HIDDEN,
  intermediateSize: INNER,
  numHiddenLayers: 2,
  numAttentionHeads: 1,
  numKeyValueHeads: 1,
  headDim: HIDDEN,
  rmsNormEps: EPSILON,
  rope: { type: "default", theta: 10_000, dimensions: HIDDEN, interleaved: false },
  maxPositionEmbeddings: 96,
  attentionBias: false,
  mlpBias: false,
  tieWordEmbeddings: false,
};

for (const [name, body] of Object.entries(BODIES)) {
  Deno.test(`gradients equal differences in float64 with ${name}`, async (t) => {
    const gpu = await openGpu();
    const seed = freshSeed();
    for (const checkpointing of [false, true]) {
      await t.step(
        `${checkpointing ? "with" : "without"} checkpointing, seed ${seed}`,
        () => compare(gpu, seed, name, body, checkpointing),
      );
    }
    gpu.destroy();
  });
}

async function compare(gpu: Gpu, seed: number, name: string, body: Body, checkpointing: boolean) {
  const next = normal(seed);
  const everything = name === WITH_EVERYTHING ? EVERYTHING : undefined;
  const own = everything ? { chosen: 37, rejected: 38 } : { chosen: 3, rejected: 4 };
  const pair = pairOf(uniform(seed, 1), { prefix: 2, ...own });
  const batch = pack([pair]);
  const { tokens, labels } = packedSize(pair);
  const net = netOf(body, 2, everything);
  const decoder = new Decoder(
    CONFIG,
    {
      tokens,
      labels,
      pairs: 1,
      positions: 2 + own.rejected,
      logitsBytes: everything ? 1 : 2 ** 20,
      checkpointing,
    },
    { largestBuffer: 2 ** 27, loss: simper.wgsl, training: true },
    net,
  );
  await decoder.allocate(gpu, new Pipelines(gpu));
  const values = new Map<string, Float64Array>();
  for (const part of decoder.parameters.names) {
    const length = decoder.parameters.shape(part).reduce((product, n) => product * n, 1);
    values.set(part, Float64Array.from({ length }, () => Math.fround(next() * 0.5)));
    let at = 0;
    for (const { tensor, firstElement, count } of decoder.parameters.ranges(part, "weights")) {
      writeTensor(gpu, tensor, Float32Array.from(values.get(part)!.subarray(at, at + count)), firstElement);
      at += count;
    }
  }
  decoder.upload(gpu, batch, { firstOfStep: true, pairsOfStep: 1 });
  const encoder = gpu.device.createCommandEncoder();
  decoder.encodeForward(encoder);
  decoder.encodeBackward(encoder);
  gpu.device.queue.submit([encoder.finish()]);

  const lossOf = (parameters: ReadonlyMap<string, Float64Array>): number => {
    const at = new Reference(parameters);
    const rows = (table: Float64Array, ids: Iterable<number>) =>
      Float64Array.from([...ids].flatMap((id) => [...table.subarray(id * HIDDEN, (id + 1) * HIDDEN)]));
    const positions = batch.masks[0].spans.filter((_, i) => i % 4 === 3);
    let x: Float64Array = rows(at.of("embed"), batch.ids).map((value) => value * (everything?.scale ?? 1));
    for (const l of [0, 1]) x = REFERENCES[name](new Reference(parameters, `layers.${l}.`), x, positions);
    const normed = at.norm(rows(x, batch.labelRows), "norm");
    const bias = parameters.get("head.bias");
    const logits = at.linear(normed, "head", HIDDEN).map((value, i) => {
      if (!everything) return value;
      const { logitScale, logitSoftcap } = everything;
      return logitSoftcap * Math.tanh((value + bias![i % VOCABULARY]) * logitScale / logitSoftcap);
    });
    const { logps } = logProbabilities(logits, batch.targets);
    const chosen = pair.chosen.ids.length - pair.chosen.promptLength;
    return simperReference([...logps.subarray(0, chosen)], [...logps.subarray(chosen)]).value;
  };
  const STEP = 1e-5;
  for (const [part, before] of values) {
    // Of large ones some, since each costs two runs of the whole.
    const stride = Math.ceil(before.length / 40);
    const some = Array.from(before.keys()).filter((i) => i % stride === 0);
    const expected = some.map((i) => {
      const at = (change: number) => lossOf(new Map(values).set(part, before.with(i, before[i] + change)));
      return (at(STEP) - at(-STEP)) / (2 * STEP);
    });
    const found = await decoder.parameters.read(gpu, part, "gradients");
    assert.ok(expected.some((value) => Math.abs(value) > 1e-6), `${part} has a gradient`);
    assertClose(some.map((i) => found[i]), expected, { tolerance: 2e-5 }, part);
  }
  decoder.destroy();
}
