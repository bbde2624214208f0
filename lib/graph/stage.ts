/** Stages of a pipeline: a model's layers in as many parts, each with a graph of its own. */
import type { BatchSize } from "../batch/size.ts";
import { UserError } from "../errors.ts";
import { copy } from "../gpu/operations.ts";
import type { Op, Segment, Value } from "./graph.ts";
import { Net } from "./net.ts";

/** Which of how many stages, from 0. */
export interface StageOf {
  stage: number;
  stages: number;
}

const flopsOf = ({ ops }: Segment, size: BatchSize) =>
  ops.reduce((sum, { flops }) => sum + (flops?.(size) ?? 0), 0);

/**
 * The layers of a stage, [from, to), one or more. The slowest stage is as fast as it can be, by the operations of a
 * forward pass, with those of the head; and of what leaves it so, the later a stage, the more it has, since the first
 * has the embedding, and earlier ones keep more micro-batches for their backward passes. It is the same whatever the
 * data: every second token counts as a label, which the head is for, and attention between tokens as nothing. For
 * Llama-3-8B a label takes 2 x 128,256 x 4,096 = 1.05e9 operations in the head, and a token 2 x 218e6 = 0.436e9 in a
 * layer, so the head is 1.2 layers; of 4 stages one has 9 layers or more, and they have 7, 9, 9 and 7.
 *
 * @throws {UserError} (status 2) where there are more stages than layers.
 */
export function layersOfStage(net: Net, { stage, stages }: StageOf): [from: number, to: number] {
  const size: BatchSize = { tokens: 2, labels: 1, visible: net.windows.map(() => 0) };
  const layers = net.layers.map((segment) => flopsOf(segment, size));
  const { length } = layers;
  if (stages > length) {
    throw new UserError(
      `pipeline_parallel_size: ${stages} stages, and the model has ${length} layers: a stage has one or more`,
      2,
    );
  }
  const head = flopsOf(net.segments.at(-1)!, size);
  const sumOf = (from: number, to: number) =>
    layers.slice(from, to).reduce((sum, flops) => sum + flops, to === length ? head : 0);
  /** Where stages begin that have as much as they may, from the last one on; undefined where that is not enough. */
  const begins = (most: number): number[] | undefined => {
    const found = [length];
    for (let s = stages - 1; s >= 0; s--) {
      const end = found[0];
      let from = end - 1;
      while (from > s && sumOf(from - 1, end) <= most) from--;
      if (sumOf(from, end) > most) return undefined;
      found.unshift(from);
    }
    return found[0] === 0 ? found : undefined;
  };
  const sums = layers.flatMap((_, from) => layers.slice(from).map((_, i) => sumOf(from, from + i + 1)));
  // The largest is all there is, which is enough.
  const found = sums.sort((a, b) => a - b).values().map(begins).find((found) => found !== undefined)!;
  return [found[stage], found[stage + 1]];
}

/**
 * The layers [from, to) of a graph as a graph of its own: with what is before the first layer or after the last one,
 * if it has that; else with a boundary. What is received there takes the place of the value before, and what is sent
 * is the last layer's. Windows, rotations and widths stay those of the whole, so that one batch is every stage's.
 *
 * @param net with the roles that its parameters have in training.
 */
export function stageNet(net: Net, [from, to]: readonly [from: number, to: number]): Net {
  const { layers, segments } = net;
  if (from === 0 && to === layers.length) return net;
  const received = from > 0 ? layers[from].input! : undefined;
  const sent = to < layers.length ? layers[to].input! : undefined;
  const begin = received ? segments.indexOf(layers[from]) : 0;
  const end = sent ? segments.indexOf(layers[to]) : segments.length;
  const withGradient = net.valuesWithGradient();
  const own = [
    ...received ? [boundary("received", receive(received))] : [],
    ...segments.slice(begin, end),
    ...sent ? [boundary("sent", send(sent))] : [],
  ];
  const read = new Set(own.flatMap(({ ops }) => ops).flatMap(({ parameters }) => parameters));
  const { windows, ropes, logits, inputEmbeddings, outputEmbeddings, headBias, finalNorm } = net;
  return Object.assign(new Net(), {
    ...{ segments: own, windows, ropes, logits, inputEmbeddings, outputEmbeddings, headBias, finalNorm },
    ...{ attentionWidth: net.attentionWidth, finalStatistics: net.finalStatistics },
    parameters: net.parameters.filter((parameter) => read.has(parameter)),
    ...(received && { received: { value: received, hasGradient: withGradient.has(received) } }),
    ...(sent && { sent: { value: sent, hasGradient: withGradient.has(sent) } }),
  });
}

const boundary = (name: string, op: (segment: Segment) => Op): Segment => {
  const segment: Segment = { name, ops: [] };
  segment.ops.push(op(segment));
  return segment;
};

/** Its output is there before the pass begins; at its end the gradient takes that place. */
const receive = (value: Value) => (): Op => ({
  inputs: [],
  output: value,
  extras: [],
  parameters: [],
  inBackward: "kept",
  forward: () => [],
  backward(dOutput, pass) {
    pass.emit([copy(pass.machine.rows, dOutput, pass.machine.received!)]);
  },
});

/** Its input is read when the pass has ended; the gradient takes its place before the backward pass. */
const send = (value: Value) => (segment: Segment): Op => {
  const op: Op = {
    inputs: [value],
    output: {
      name: "sent",
      width: 0,
      segment,
      uses: [],
      get op() {
        return op;
      },
    },
    extras: [],
    parameters: [],
    inBackward: "kept",
    forward: () => [],
    backward: (_, pass) => pass.handOn(value, pass.machine.sent!),
  };
  return op;
};
