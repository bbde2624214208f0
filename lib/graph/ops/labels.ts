/** The end of every model: final norm, LM head, log-probabilities of the labels and the loss; and back. */
import { linear, linearInputGradient, linearWeightGradient } from "../../gpu/linear.ts";
import { rowsOf, type Tensor } from "../../gpu/memory.ts";
import * as kernels from "../../gpu/operations.ts";
import type { KernelCall } from "../../gpu/program.ts";
import type { Value } from "../graph.ts";
import type { Machine } from "../machine.ts";
import type { OpParts } from "../net.ts";
import { type ParameterSpec, shapeOf } from "../parameter.ts";

interface Head {
  finalNorm: ParameterSpec;
  /** The LM head, or the embedding's table where that serves as one. */
  head: ParameterSpec;
  epsilon: number;
}

/**
 * It works on the rows that predict a label, and on logits in pieces of bounded size, so it is one op with calls of its own: their
 * grids follow from a batch's labels, and the backward pass makes the logits of all pieces but the last again.
 */
export const labels = (x: Value, head: Head): OpParts => ({
  inputs: [x],
  parameters: [head.finalNorm, head.head],
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
function headForward(machine: Machine, { finalNorm, head, epsilon }: Head, x: Tensor): KernelCall[] {
  const { batch, parameters, products, head: t, widths } = machine;
  const weight = parameters.of(finalNorm).weights;
  return [
    kernels.gatherRows(batch.labelSlot, batch.uploaded.labelRows, x, t.gathered),
    kernels.rmsNorm(batch.labelSlot, t.gathered, weight, t.gatheredNormed, t.gatheredRstd, epsilon),
    ...batch.pieces.flatMap((rows, i) => {
      const part = (tensor: Tensor) => rowsOf(tensor, i * batch.pieceRows, batch.pieceRows);
      const operands = { x: part(t.gatheredNormed), y: t.logits };
      const found = {
        logits: t.logits,
        targets: part(batch.uploaded.targets),
        lse: part(t.labelLse),
        logps: part(t.logps),
      };
      return [
        ...linear(products, rows, parameters.pieces(head), operands),
        kernels.logProbabilities(rows, found, widths.vocabulary),
      ];
    }),
  ];
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
function headBackward(machine: Machine, { finalNorm, head }: Head, dX: Tensor): KernelCall[] {
  const { batch, parameters, products, head: t, widths } = machine;
  const norm = parameters.of(finalNorm);
  const matrix = parameters.pieces(head);
  const pieces = batch.pieces.map((rows, i) => {
    const part = (tensor: Tensor) => rowsOf(tensor, i * batch.pieceRows, batch.pieceRows);
    const next = batch.pieces[i + 1];
    const isLast = (counts: Uint32Array) => !next || counts[next.slot] === 0;
    const x = part(t.gatheredNormed);
    const found = {
      logits: t.logits,
      targets: part(batch.uploaded.targets),
      lse: part(t.labelLse),
      weights: part(t.labelWeights),
    };
    return [
      ...linear(products, rows, matrix, { x, y: t.logits }).map((call) => ({
        ...call,
        grid: (counts: Uint32Array): [number, number] => isLast(counts) ? [0, 0] : call.grid(counts),
      })),
      kernels.logitsBackward(rows, found, widths.vocabulary),
      ...linearInputGradient(products, rows, matrix, { dY: t.logits, dX: part(t.gradientGatheredNormed) }),
      ...linearWeightGradient(products, rows, matrix, { dY: t.logits, x }),
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
