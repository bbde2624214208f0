/** The end of every model: final norm, LM head, log-probabilities of the labels and the loss; and back. */
import { linear, linearInputGradient, linearWeightGradient } from "../../gpu/linear.ts";
import { rowsOf, type Tensor } from "../../gpu/memory.ts";
import { type Norm, norm, normBackward, normWeightBackward } from "../../gpu/norm_operations.ts";
import { choose, draw } from "../../gpu/choice_operations.ts";
import * as kernels from "../../gpu/operations.ts";
import { type KernelCall, onlyWhere, type RowSlot } from "../../gpu/program.ts";
import { usesBatch, usesWeighting } from "../../losses/loss.ts";
import type { BackwardPass, OpParts, Value } from "../graph.ts";
import type { Parameter, TrainedParameter } from "../../parameters/layout.ts";
import type { GenerationTensors, Machine } from "../machine.ts";
import { isTrained, type ParameterSpec, shapeOf } from "../../parameters/parameter.ts";

interface Head {
  norm: Norm;
  /** The norm's. */
  weight: ParameterSpec;
  /** The LM head, or the embedding's table where that serves as one. */
  head: ParameterSpec;
  bias?: ParameterSpec;
  logits: kernels.LogitOptions;
}

/**
 * It works on the rows that predict a label, and on logits in pieces of bounded size, so it is one op with calls of
 * its own: their grids follow from a batch's labels, and the backward pass makes the logits of all pieces but the
 * last again.
 */
export const labels = (x: Value, head: Head): OpParts => ({
  inputs: [x],
  parameters: [head.weight, head.head, ...(head.bias ? [head.bias] : [])],
  inBackward: "kept",
  flops({ labels }) {
    const [rows, columns] = shapeOf(head.head);
    return 2 * rows * columns * labels;
  },
  forward: (
    { machine, of },
  ) =>
    machine.generation
      ? choiceCalls(machine, machine.generation, head, of(x))
      : lossForward(machine, head, of(x)),
  backward: (_, pass) => headBackward(pass, x, head),
});

/** Log-probabilities of the labels, and from these loss and figures of each pair. L labels. */
function lossForward(machine: Machine, head: Head, x: Tensor): KernelCall[] {
  const { plan, batch, head: { logps }, capacity, options: { loss } } = machine;
  const squares = usesWeighting(loss)
    ? plan.shared("squared probabilities", "scratch", logps.shape)
    : undefined;
  const sums = usesBatch(loss) ? plan.shared("sums of pairs", "scratch", [capacity.pairs, 2]) : undefined;
  return [
    ...normedRows(machine, head, x),
    ...batch.pieces.flatMap((rows, i) => logProbabilitiesOf(machine, head, rows, i, squares)),
    ...lossCalls(machine, squares, sums),
    figuresCall(machine),
  ];
}

/** Those of one piece of logits. */
function logProbabilitiesOf(
  machine: Machine,
  head: Head,
  rows: RowSlot,
  index: number,
  squares?: Tensor,
): KernelCall[] {
  const { batch, head: t, widths } = machine;
  const part = (tensor: Tensor) => rowsOf(tensor, index * batch.pieceRows, batch.pieceRows);
  const { logits } = t;
  const lse = part(t.labelLse);
  const found = {
    ...{ logits, lse },
    targets: part(batch.uploaded.targets),
    logps: part(t.logps),
    figures: part(t.labelFigures),
  };
  return [
    ...logitsOf(machine, head, rows, part(t.gatheredNormed)),
    kernels.logProbabilities(rows, found, widths.vocabulary, head.logits),
    ...squares
      ? [
        kernels.squaredProbabilities(
          rows,
          { logits, lse, squares: part(squares) },
          widths.vocabulary,
          head.logits,
        ),
      ]
      : [],
  ];
}

/** The rows that predict a label, after the norm. */
function normedRows({ batch, parameters, head: t }: Machine, { norm: how, weight }: Head, x: Tensor) {
  return [
    kernels.gatherRows(batch.labelSlot, batch.uploaded.labelRows, x, t.gathered),
    norm(batch.labelSlot, how, {
      x: t.gathered,
      weight: parameters.of(weight).weights,
      y: t.gatheredNormed,
      statistics: t.gatheredStatistics,
    }),
  ];
}

/** The token that follows each label row. */
function choiceCalls(machine: Machine, generation: GenerationTensors, head: Head, x: Tensor): KernelCall[] {
  const { batch, head: { logits, gatheredNormed }, widths } = machine;
  const { ids, labelRows } = batch.uploaded;
  return [
    ...normedRows(machine, head, x),
    ...batch.pieces.flatMap((rows, i) => {
      const part = (tensor: Tensor) => rowsOf(tensor, i * batch.pieceRows, batch.pieceRows);
      const { choices, drawn } = generation;
      const t = {
        ...generation,
        ...{ choices: part(choices), drawn: part(drawn), labelRows: part(labelRows), logits, ids },
      };
      return [
        ...logitsOf(machine, head, rows, part(gatheredNormed)),
        draw(rows, t, widths.vocabulary, head.logits),
        choose(rows, t, widths.vocabulary, head.logits),
      ];
    }),
  ];
}

/** The logits of a piece's rows: of all tokens, or of those that `matrices`, pieces of the head, are for. */
function logitsOf(
  { products, parameters, head: t }: Machine,
  { head, bias }: Head,
  rows: RowSlot,
  x: Tensor,
  matrices = parameters.pieces(head),
) {
  const added = bias && parameters.of(bias).weights;
  return linear(products, rows, matrices, { x, y: t.logits, bias: added });
}

/** The gradient of the head's bias, by way of sums as wide as a row of logits. */
function biasBackward(
  { plan, batch, head: t }: Machine,
  [{ gradients }]: readonly TrainedParameter[],
  rows: RowSlot,
): KernelCall[] {
  const shape = [Math.ceil(batch.pieceRows / 32), t.logits.shape[1]];
  const partial = plan.shared("head bias column sums", "scratch", shape);
  return kernels.addBiasBackward(rows, { dY: t.logits, dBias: gradients, partial });
}

/** Loss and summed log-probabilities of each pair, and the weight of each label's gradient. */
const lossCalls = ({ batch, head, options }: Machine, squares?: Tensor, sums?: Tensor): KernelCall[] =>
  kernels.preferenceLoss(
    batch.pairSlot,
    {
      labelsOfPair: batch.uploaded.labelsOfPair,
      references: batch.uploaded.references,
      logps: head.logps,
      targets: batch.uploaded.targets,
      squares,
      weights: head.labelWeights,
      results: batch.results,
      sums,
    },
    options.loss,
    options.eosTokenId,
  );

/** What else the log has of each response. */
const figuresCall = ({ batch, head, options }: Machine): KernelCall =>
  kernels.responseFigures(
    batch.pairSlot,
    {
      labelsOfPair: batch.uploaded.labelsOfPair,
      targets: batch.uploaded.targets,
      figures: head.labelFigures,
      responses: batch.responseFigures,
    },
    options.eosTokenId,
  );

/**
 * From the labels' weights to the gradient of x, and of head and final norm. Pieces of logits go backwards: the last
 * one's are still there, so a batch of one piece computes them once.
 */
function headBackward(pass: BackwardPass, x: Value, head: Head): void {
  const { norm: how, weight, bias } = head;
  const { batch, parameters, products, head: t, widths, rows: tokens } = pass.machine;
  const hasInputGradient = isTrained(weight) || pass.hasGradient(x);
  const trained = new Map(parameters.trained(head.head).map((piece) => [piece.firstRow, piece]));
  const callsOf = (matrices: readonly Parameter[], rows: RowSlot, i: number) => {
    const part = (tensor: Tensor) => rowsOf(tensor, i * batch.pieceRows, batch.pieceRows);
    const next = batch.pieces[i + 1];
    const isMadeAgain = (counts: Uint32Array) => next !== undefined && counts[next.slot] > 0;
    const normed = part(t.gatheredNormed);
    const found = {
      logits: t.logits,
      targets: part(batch.uploaded.targets),
      lse: part(t.labelLse),
      weights: part(t.labelWeights),
    };
    const dNormed = part(t.gradientGatheredNormed);
    const [{ firstRow }] = matrices;
    const columns = { first: firstRow, count: matrices.reduce((sum, { rows }) => sum + rows, 0) };
    const adds = firstRow > 0;
    const own = matrices.flatMap(({ firstRow }) => trained.get(firstRow) ?? []);
    return [
      ...logitsOf(pass.machine, head, rows, normed, matrices).map((call) => onlyWhere(call, isMadeAgain)),
      kernels.logitsBackward(rows, found, widths.vocabulary, head.logits, columns),
      ...hasInputGradient
        ? linearInputGradient(products, rows, matrices, { dY: t.logits, dX: dNormed }, { adds })
        : [],
      ...linearWeightGradient(products, rows, own, { dY: t.logits, x: normed }),
      ...(bias && isTrained(bias) ? biasBackward(pass.machine, parameters.trained(bias), rows) : []),
    ];
  };
  // A piece of the head at a time, so that its gradient is complete, and may be applied, before the next one's
  // begins; a bias's is of whole rows.
  const all = parameters.pieces(head.head);
  const groups = bias && isTrained(bias) ? [all] : all.map((piece) => [piece]);
  const backwards = batch.pieces.map((rows, i) => ({ rows, i })).reverse();
  for (const group of groups) pass.emit(backwards.flatMap(({ rows, i }) => callsOf(group, rows, i)));
  const at = { x: t.gathered, statistics: t.gatheredStatistics, dY: t.gradientGatheredNormed };
  if (pass.hasGradient(x)) {
    const { weights } = parameters.of(weight);
    pass.emit([normBackward(batch.labelSlot, how, { ...at, weight: weights, dX: t.gradientGathered })]);
  }
  pass.parameterGradient(
    weight,
    ([{ gradients }]) =>
      normWeightBackward(batch.labelSlot, how, { ...at, dWeight: gradients, partial: batch.columnPartial }),
  );
  pass.newGradient(x, (dX) => [
    kernels.gatherRowsBackward(tokens, batch.uploaded.labelsOfRow, t.gradientGathered, dX),
  ]);
}
