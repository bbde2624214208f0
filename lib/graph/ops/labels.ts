/** The end of every model: final norm, LM head, log-probabilities of the labels and the loss; and back. */
import { linear, linearInputGradient, linearWeightGradient } from "../../gpu/linear.ts";
import { rowsOf, type Tensor } from "../../gpu/memory.ts";
import * as kernels from "../../gpu/operations.ts";
import type { KernelCall, RowSlot } from "../../gpu/program.ts";
import type { Value } from "../graph.ts";
import type { Machine } from "../machine.ts";
import type { OpParts } from "../net.ts";
import { type ParameterSpec, shapeOf } from "../parameter.ts";

interface Head {
  finalNorm: ParameterSpec;
  /** The LM head, or the embedding's table where that serves as one. */
  head: ParameterSpec;
  bias?: ParameterSpec;
  epsilon: number;
  logits: kernels.LogitOptions;
}

/**
 * It works on the rows that predict a label, and on logits in pieces of bounded size, so it is one op with calls of its own: their
 * grids follow from a batch's labels, and the backward pass makes the logits of all pieces but the last again.
 */
export const labels = (x: Value, head: Head): OpParts => ({
  inputs: [x],
  parameters: [head.finalNorm, head.head, ...(head.bias ? [head.bias] : [])],
  inBackward: "kept",
  flops({ labels }) {
    const [rows, columns] = shapeOf(head.head);
    return 2 * rows * columns * labels;
  },
  forward: ({ machine, of }) => [...headForward(machine, head, of(x)), lossCall(machine)],
  backward(_, pass) {
    pass.newGradient(x, (dX) => headBackward(pass.machine, head, dX));
  },
});

/** Log-probabilities of the labels, piece by piece. L labels. */
function headForward(machine: Machine, head: Head, x: Tensor): KernelCall[] {
  const { finalNorm, epsilon } = head;
  const { batch, parameters, head: t, widths } = machine;
  const weight = parameters.of(finalNorm).weights;
  return [
    kernels.gatherRows(batch.labelSlot, batch.uploaded.labelRows, x, t.gathered),
    kernels.rmsNorm(batch.labelSlot, t.gathered, weight, t.gatheredNormed, t.gatheredRstd, epsilon),
    ...batch.pieces.flatMap((rows, i) => {
      const part = (tensor: Tensor) => rowsOf(tensor, i * batch.pieceRows, batch.pieceRows);
      const found = {
        logits: t.logits,
        targets: part(batch.uploaded.targets),
        lse: part(t.labelLse),
        logps: part(t.logps),
      };
      return [
        ...logitsOf(machine, head, rows, part(t.gatheredNormed)),
        kernels.logProbabilities(rows, found, widths.vocabulary, head.logits),
      ];
    }),
  ];
}

/** The logits of a piece's rows. */
function logitsOf(
  { products, parameters, head: t }: Machine,
  { head, bias }: Head,
  rows: RowSlot,
  x: Tensor,
) {
  return [
    ...linear(products, rows, parameters.pieces(head), { x, y: t.logits }),
    ...(bias ? [kernels.addBias(rows, parameters.of(bias).weights, t.logits)] : []),
  ];
}

/** The gradient of the head's bias, by way of sums as wide as a row of logits. */
function biasBackward({ plan, parameters, batch, head: t }: Machine, bias: ParameterSpec, rows: RowSlot) {
  const shape = [Math.ceil(batch.pieceRows / 32), t.logits.shape[1]];
  const partial = plan.shared("head bias column sums", "scratch", shape);
  return kernels.addBiasBackward(rows, { dY: t.logits, dBias: parameters.of(bias).gradients, partial });
}

/** Loss and metrics of each pair, and the weight of each label's gradient. */
const lossCall = ({ batch, head, options }: Machine): KernelCall =>
  kernels.preferenceLoss(
    batch.pairSlot,
    {
      labelsOfPair: batch.uploaded.labelsOfPair,
      logps: head.logps,
      weights: head.labelWeights,
      results: batch.results,
    },
    options.loss,
  );

/**
 * From the labels' weights to the gradient of x, and of head and final norm. Pieces go backwards: the last one's logits are still
 * there, so a batch of one piece computes them once.
 */
function headBackward(machine: Machine, head: Head, dX: Tensor): KernelCall[] {
  const { batch, parameters, products, head: t, widths } = machine;
  const norm = parameters.of(head.finalNorm);
  const matrix = parameters.pieces(head.head);
  const pieces = batch.pieces.map((rows, i) => {
    const part = (tensor: Tensor) => rowsOf(tensor, i * batch.pieceRows, batch.pieceRows);
    const next = batch.pieces[i + 1];
    const isLast = (counts: Uint32Array) => !next || counts[next.slot] === 0;
    const counted = { rows, adding: batch.piecesAdding[i] };
    const x = part(t.gatheredNormed);
    const found = {
      logits: t.logits,
      targets: part(batch.uploaded.targets),
      lse: part(t.labelLse),
      weights: part(t.labelWeights),
    };
    return [
      ...logitsOf(machine, head, rows, x).map((call) => ({
        ...call,
        grid: (counts: Uint32Array): [number, number] => isLast(counts) ? [0, 0] : call.grid(counts),
      })),
      kernels.logitsBackward(rows, found, widths.vocabulary, head.logits),
      ...linearInputGradient(products, counted, matrix, { dY: t.logits, dX: part(t.gradientGatheredNormed) }),
      ...linearWeightGradient(products, rows, matrix, { dY: t.logits, x }),
      ...(head.bias ? biasBackward(machine, head.bias, rows) : []),
    ];
  });
  return [
    ...pieces.reverse().flat(),
    ...kernels.rmsNormBackward(batch.labelSlot, {
      x: t.gathered,
      rstd: t.gatheredRstd,
      weight: norm.weights,
      dWeight: norm.gradients,
      dY: t.gradientGatheredNormed,
      dX: t.gradientGathered,
      partial: batch.columnPartial,
    }, false),
    kernels.gatherRowsBackward(machine.rows, batch.uploaded.labelsOfRow, t.gradientGathered, dX),
  ];
}
