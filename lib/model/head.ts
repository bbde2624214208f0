/** The kernels between the last layer and the loss: final norm, LM head, log-probabilities, and back. */
import { rowsOf } from "../gpu/memory.ts";
import {
  gatherRows,
  gatherRowsBackward,
  gemm,
  logitsBackward,
  logProbabilities,
  preferenceLoss,
  rmsNorm,
  rmsNormBackward,
} from "../gpu/operations.ts";
import type { KernelCall } from "../gpu/program.ts";
import type { DecoderContext } from "./layers.ts";

/** Logits of piece `i` of the labels, into the one buffer that all pieces share. */
function pieceLogits({ activations: a, parameters, spec, device }: DecoderContext, i: number): KernelCall {
  const head = parameters.of(spec.head ?? spec.embedding).weights;
  const input = rowsOf(a.gatheredNormed, i * a.pieceRows, a.pieceRows);
  return gemm("nt", a.pieces[i], { a: input, b: head, c: a.logits }, device);
}

/** Final norm of the rows that predict a label, then the log-probability of every label, piece by piece. */
export function headForward(context: DecoderContext): KernelCall[] {
  const { config, parameters, spec, activations: a } = context;
  const weight = parameters.of(spec.finalNorm).weights;
  return [
    gatherRows(a.labelSlot, a.batch.labelRows, a.output, a.gathered),
    rmsNorm(a.labelSlot, a.gathered, weight, a.gatheredNormed, a.gatheredRstd, config.rmsNormEps),
    ...a.pieces.flatMap((rows, i) => {
      const part = (tensor: typeof a.logps) => rowsOf(tensor, i * a.pieceRows, a.pieceRows);
      const tensors = {
        logits: a.logits,
        targets: part(a.batch.targets),
        lse: part(a.labelLse),
        logps: part(a.logps),
      };
      return [pieceLogits(context, i), logProbabilities(rows, tensors, config.vocabSize)];
    }),
  ];
}

/** Loss and metrics of each pair, and the weight of each label's gradient. */
export const lossCalls = ({ activations: a }: DecoderContext, loss: string): KernelCall =>
  preferenceLoss(
    a.pairSlot,
    { labelsOfPair: a.batch.labelsOfPair, logps: a.logps, weights: a.labelWeights, results: a.results },
    loss,
  );

/**
 * From the labels' weights to the gradient of the residual stream, and of head and final norm. Pieces go backwards: the
 * last one's logits are still there, so a batch of one piece computes them once.
 */
export function headBackward(context: DecoderContext): KernelCall[] {
  const { config, parameters, spec, activations: a, device } = context;
  const head = parameters.of(spec.head ?? spec.embedding);
  const finalNorm = parameters.of(spec.finalNorm);
  const pieces = a.pieces.map((rows, i) => {
    const part = (tensor: typeof a.logps) => rowsOf(tensor, i * a.pieceRows, a.pieceRows);
    const again = pieceLogits(context, i);
    const next = a.pieces[i + 1];
    const isLast = (counts: Uint32Array) => !next || counts[next.slot] === 0;
    const tensors = {
      logits: a.logits,
      targets: part(a.batch.targets),
      lse: part(a.labelLse),
      weights: part(a.labelWeights),
    };
    return [
      {
        ...again,
        grid: (counts: Uint32Array): [number, number] => isLast(counts) ? [0, 0] : again.grid(counts),
      },
      logitsBackward(rows, tensors, config.vocabSize),
      gemm("nn", rows, { a: a.logits, b: head.weights, c: part(a.gradientGatheredNormed) }, device),
      gemm("tn", rows, { a: a.logits, b: part(a.gatheredNormed), c: head.gradients }, device, "accumulate"),
    ];
  });
  return [
    ...pieces.reverse().flat(),
    ...rmsNormBackward(a.labelSlot, {
      x: a.gathered,
      rstd: a.gatheredRstd,
      weight: finalNorm.weights,
      dWeight: finalNorm.gradients,
      dY: a.gradientGatheredNormed,
      dX: a.gradientGathered,
      partial: a.normPartial,
    }, false),
    gatherRowsBackward(a.tokenRows, a.batch.labelsOfRow, a.gradientGathered, a.gradient),
  ];
}
