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
 * The layers of a stage, [from, to): a stage ends where what is before it comes nearest to its share of all operations
 * of a forward pass, those of the head among them, and has a layer or more. It is the same whatever the data: every
 * second token counts as a label, which the head is for, and attention between tokens as nothing. For Llama-3-8B a
 * label takes 2 x 128,256 x 4,096 = 1.05e9 operations in the head, and a token 2 x 218e6 = 0.436e9 in a layer: the head
 * is 1.2 layers, a stage of 4 is (32 + 1.2) / 4 = 8.3, and they have 8, 9, 8 and 7.
 *
 * @throws {UserError} (status 2) where there are more stages than layers.
 */
export function layersOfStage(net: Net, { stage, stages }: StageOf): [from: number, to: number] {
  const size: BatchSize = { tokens: 2, labels: 1, visible: net.windows.map(() => 0) };
  const layers = net.layers.map((segment) => flopsOf(segment, size));
  if (stages > layers.length) {
    throw new UserError(
      `pipeline_parallel_size: ${stages} stages, and the model has ${layers.length} layers: a stage has one or more`,
      2,
    );
  }
  const total = net.segments.reduce((sum, segment) => sum + flopsOf(segment, size), 0);
  const before = [0];
  for (const flops of layers) before.push(before.at(-1)! + flops);
  const ends = [0];
  for (let s = 1; s < stages; s++) {
    let end = ends.at(-1)! + 1;
    const share = total * s / stages;
    const last = layers.length - (stages - s);
    while (end < last && Math.abs(before[end + 1] - share) < Math.abs(before[end] - share)) end++;
    ends.push(end);
  }
  ends.push(layers.length);
  return [ends[stage], ends[stage + 1]];
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
