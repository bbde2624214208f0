/**
 * Graphs whose residual stream is read by several branches: gradients that one op may not add to while another reads
 * them.
 */
import assert from "node:assert/strict";
import { pack } from "../../lib/batch/pack.ts";
import { packedSize } from "../../lib/data/pair.ts";
import { type Pipelines, writeTensor } from "../../lib/gpu/program.ts";
import type { Value } from "../../lib/graph/graph.ts";
import { shapeOfPart } from "../../lib/parameters/parameter.ts";
import { Net } from "../../lib/graph/net.ts";
import { wgslOf } from "../../lib/losses/loss.ts";
import { losses } from "../../lib/losses/losses.ts";
import { type RopeSpec, ropeTable } from "../../lib/graph/rope_table.ts";
import { Decoder } from "../../lib/graph/decoder.ts";
import type { Capacity } from "../../lib/graph/machine.ts";
import { normal, uniform } from "../../lib/random.ts";
import { assertClose, deviceTest, freshSeed, largest, useGpu } from "../kernels/harness.ts";
import { pairOf } from "../random_pairs.ts";
import { glu } from "../reference/activation.ts";
import { logProbabilities } from "../reference/log_probabilities.ts";
import { matrix, multiply, transposed } from "../reference/matrix.ts";
import { rope as ropeReference } from "../reference/rope.ts";
import { simper as simperReference } from "../reference/preference_loss.ts";
import { norm as normReference } from "../reference/norm.ts";

const [VOCABULARY, HIDDEN, INNER, EPSILON] = [50, 8, 12, 1e-5];

/** Branches from a layer's input, in the order in which they are written; each names its norm. */
type Body = (net: Net, x: Value) => Value;

const branch = (net: Net, h: Value, name: string) =>
  net.linear(net.glu(net.linear(h, { [`${name}.gate`]: INNER, [`${name}.up`]: INNER }), "silu"), {
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
  "a norm after each branch": (net, x) => {
    x = net.add(x, net.rmsNorm(branch(net, x, "a"), "plus_a", EPSILON, { onePlus: true }));
    const b = branch(net, norm(net, x, "norm_b"), "b");
    return net.add(x, net.layerNorm(b, "layer_b", EPSILON, { bias: true, onePlus: true }));
  },
  "two branches beside each other, the second added first, with norms after them": (net, x) => {
    const a = norm(net, branch(net, x, "a"), "norm_a");
    const b = net.layerNorm(branch(net, x, "b"), "layer_b", EPSILON, { bias: true, onePlus: true });
    return net.add(net.add(x, b), a);
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
    return this.linear(glu(gateUp, INNER), `${name}.down`, INNER);
  }
  /** A norm's name says its kind; the final one is a LayerNorm. */
  norm(x: Float64Array, name: string): Float64Array {
    const isLayer = name.startsWith("layer") || name === "norm";
    const bias = this.parameters.get(`${this.prefix}${name}.bias`);
    const onePlus = /^(layer|plus)/.test(name);
    return normReference(x, {
      kind: isLayer ? "layer" : "rms",
      epsilon: EPSILON,
      weight: this.of(name),
      bias,
      onePlus,
    }).y;
  }
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
  "a norm after each branch": (r, x) => {
    x = sum(x, r.norm(r.branch(x, "a"), "plus_a"));
    return sum(x, r.norm(r.branch(r.norm(x, "norm_b"), "b"), "layer_b"));
  },
  "two branches beside each other, the second added first, with norms after them": (r, x) =>
    sum(sum(x, r.norm(r.branch(x, "b"), "layer_b")), r.norm(r.branch(x, "a"), "norm_a")),
  [WITH_EVERYTHING]: (r, x, positions) => {
    const h = r.rope(r.norm(x, "norm_a"), positions, ROPES[0]);
    return sum(sum(x, r.branch(h, "a")), r.rope(h, positions, ROPES[1]));
  },
};

function netOf(body: Body, layers: number, everything?: typeof EVERYTHING): Net {
  const net = new Net();
  let x = net.embedding("embed", VOCABULARY, HIDDEN, { scale: everything?.scale });
  for (let l = 0; l < layers; l++) x = net.layer(`layers.${l}`, x, (x) => body(net, x));
  net.labels(
    x,
    { name: "norm", kind: "layer", bias: true, epsilon: EPSILON },
    { name: "head", rows: VOCABULARY, ...(everything && { bias: "head.bias" }) },
    everything,
  );
  return net;
}

/** How the forward pass keeps what the backward pass reads, and how far gradients may be from differences. */
interface Mode extends Pick<Capacity, "checkpointing" | "keptStorage"> {
  tolerance: number;
}
const MODES: Record<string, Mode> = {
  "": { checkpointing: false, tolerance: 2e-5 },
  ", with checkpointing": { checkpointing: true, tolerance: 2e-5 },
};
/**
 * Which values wait and which are made again is another question there. Eight bits are kept: a value is off by up to
 * 2e-3.
 */
const ROUNDED: Record<string, Mode> = {
  ", kept as bfloat16": { checkpointing: false, keptStorage: "bf16", tolerance: 0.1 },
};

useGpu();
for (const [name, body] of Object.entries(BODIES)) {
  const modes = name === "a norm after each branch" ? { ...MODES, ...ROUNDED } : MODES;
  for (const [how, mode] of Object.entries(modes)) {
    deviceTest(`gradients equal differences in float64 with ${name}${how}`, async (pipelines) => {
      const seed = freshSeed();
      try {
        await compare(pipelines, seed, name, body, mode);
      } catch (error) {
        throw new Error(`KERNEL_SEED=${seed}: ${(error as Error).message}`, { cause: error });
      }
    });
  }
}

/** What is trained of a model of two layers, beside all of it. */
const SOME = [/^layers\.1\./, /norm/, /^layers\.0\.a\.down/];

async function compare(pipelines: Pipelines, seed: number, name: string, body: Body, mode: Mode) {
  const { tolerance, ...keeping } = mode;
  const { gpu } = pipelines;
  const next = normal(seed);
  const everything = name === WITH_EVERYTHING ? EVERYTHING : undefined;
  const own = everything ? { chosen: 37, rejected: 38 } : { chosen: 3, rejected: 4 };
  const pair = pairOf(uniform(seed, 1), { prefix: 2, ...own });
  const batch = pack([pair]);
  const { tokens, labels } = packedSize(pair);
  const values = new Map<string, Float64Array>();
  for (const parameter of netOf(body, 2, everything).parameters) {
    for (const part of parameter.parts) {
      const length = shapeOfPart(parameter, part).reduce((product, n) => product * n, 1);
      values.set(part.name, Float64Array.from({ length }, () => Math.fround(next() * 0.5)));
    }
  }
  const gradientsOf = async (trained: RegExp) => {
    const net = netOf(body, 2, everything);
    for (const parameter of net.parameters) {
      parameter.role = trained.test(parameter.name) ? "trained" : "frozen";
    }
    const decoder = new Decoder(
      net,
      {
        tokens,
        labels,
        pairs: 1,
        positions: 2 + own.rejected,
        logitsBytes: everything ? 1 : 2 ** 20,
        ...keeping,
      },
      { largestBuffer: 2 ** 27, loss: wgslOf(losses.simper), training: true },
    );
    const { parameters } = decoder;
    await decoder.allocate(gpu, pipelines);
    for (const part of parameters.names) {
      let at = 0;
      for (const { tensor, firstElement, count } of parameters.ranges(part, "weights")) {
        writeTensor(gpu, tensor, Float32Array.from(values.get(part)!.subarray(at, at + count)), firstElement);
        at += count;
      }
    }
    decoder.upload(gpu, batch, { firstOfStep: true, pairsOfStep: 1 });
    const encoder = gpu.device.createCommandEncoder();
    decoder.encodeForward(encoder);
    decoder.encodeBackward(encoder);
    gpu.device.queue.submit([encoder.finish()]);
    const gradients = new Map<string, Float32Array>();
    for (const part of parameters.namesOf("gradients")) {
      gradients.set(part, await parameters.read(gpu, part, "gradients"));
    }
    decoder.destroy();
    return gradients;
  };
  const gradients = await gradientsOf(/./);
  // Rounded, what is kept of a graph with less to train may be other values.
  for (const trained of keeping.keptStorage ? [] : SOME) {
    for (const [part, found] of await gradientsOf(trained)) {
      // Sums of branches of which some lead to nothing that is trained are in another order.
      assertClose(
        found,
        Float64Array.from(gradients.get(part)!),
        { tolerance: 1e-6 },
        `${part} of ${trained}`,
      );
    }
  }

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
  const STEP = 1e-6;
  for (const [part, before] of values) {
    // Of large ones some, since each costs two runs of the whole; of the embedding those of the batch's tokens.
    const isRead = (i: number) => part !== "embed.weight" || batch.ids.includes(Math.floor(i / HIDDEN));
    const read = Array.from(before.keys()).filter(isRead);
    const stride = Math.ceil(read.length / 16);
    const some = read.filter((_, i) => i % stride === 0);
    const expected = some.map((i) => {
      const at = (change: number) => lossOf(new Map(values).set(part, before.with(i, before[i] + change)));
      return (at(STEP) - at(-STEP)) / (2 * STEP);
    });
    const found = gradients.get(part)!;
    assert.ok(expected.some((value) => Math.abs(value) > 1e-6), `${part} has a gradient`);
    assertClose(some.map((i) => found[i]), expected, { tolerance, scale: largest(found) }, part);
  }
}
