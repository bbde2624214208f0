/** The kernels between the last layer and the loss: final norm, LM head, log-probabilities, and back. */
import { rowsOf } from "../gpu/memory.ts";
import {
  gatherRows,
  gatherRowsBackward,
  logitsBackward,
  logProbabilities,
  preferenceLoss,
  rmsNorm,
  rmsNormBackward,
} from "../gpu/operations.ts";
import type { KernelCall } from "../gpu/program.ts";
import type { DecoderContext } from "./layers.ts";
import { linear, linearInputGradient, linearWeightGradient } from "./linear.ts";
import type { ParameterSpec } from "./llama.ts";

/** Logits of piece `i` of the labels, into the one buffer that all pieces share. */
function pieceLogits(context: DecoderContext, i: number): KernelCall[] {
  const { activations: a } = context;
  const x = rowsOf(a.gatheredNormed, i * a.pieceRows, a.pieceRows);
  return linear(context, a.pieces[i], headOf(context), { x, y: a.logits });
}

const headOf = ({ spec }: DecoderContext): ParameterSpec => spec.head ?? spec.embedding;

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
      return [...pieceLogits(context, i), logProbabilities(rows, tensors, config.vocabSize)];
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
  const { config, parameters, spec, activations: a } = context;
  const head = headOf(context);
  const finalNorm = parameters.of(spec.finalNorm);
  const pieces = a.pieces.map((rows, i) => {
    const part = (tensor: typeof a.logps) => rowsOf(tensor, i * a.pieceRows, a.pieceRows);
    const next = a.pieces[i + 1];
    const isLast = (counts: Uint32Array) => !next || counts[next.slot] === 0;
    const tensors = {
      logits: a.logits,
      targets: part(a.batch.targets),
      lse: part(a.labelLse),
      weights: part(a.labelWeights),
    };
    const counted = { rows, adding: a.piecesAdding[i] };
    return [
      ...pieceLogits(context, i).map((call) => ({
        ...call,
        grid: (counts: Uint32Array): [number, number] => isLast(counts) ? [0, 0] : call.grid(counts),
      })),
      logitsBackward(rows, tensors, config.vocabSize),
      ...linearInputGradient(context, counted, head, { dY: a.logits, dX: part(a.gradientGatheredNormed) }),
      ...linearWeightGradient(context, rows, head, { dY: a.logits, x: part(a.gatheredNormed) }),
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
