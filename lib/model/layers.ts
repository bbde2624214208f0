/** The kernels of one decoder layer, forward and backward, and of the embedding below the layers. */
import { clear, embed, embedBackward, rmsNorm, rmsNormBackward, rope } from "../gpu/operations.ts";
import {
  type ProductEpilogue,
  ropeEpilogue,
  swigluBackwardEpilogue,
  swigluEpilogue,
} from "../gpu/epilogues.ts";
import { packRows, unpackRows } from "../gpu/storage_operations.ts";
import type { Tensor } from "../gpu/memory.ts";
import type { KernelCall } from "../gpu/program.ts";
import type { AttentionShape } from "../../kernels/attention.ts";
import type { Attention } from "../gpu/attention_operations.ts";
import { type Activations, LARGE, type LayerKept } from "./activations.ts";
import type { ModelConfig } from "./config.ts";
import { linear, type LinearContext, linearInputGradient, linearWeightGradient } from "./linear.ts";
import type { DecoderSpec, ParameterSpec } from "./llama.ts";

/** What the kernel lists are built from. */
export interface DecoderContext extends LinearContext {
  config: ModelConfig;
  spec: DecoderSpec;
  activations: Activations;
  attention: Attention;
}

export const attentionShape = (config: ModelConfig): AttentionShape => ({
  heads: config.numAttentionHeads,
  keyValueHeads: config.numKeyValueHeads,
  headDim: config.headDim,
});

/** x = embedding of the batch's tokens, into the first layer's input. */
export const embedForward = ({ activations: a, parameters, spec }: DecoderContext): KernelCall[] =>
  parameters.pieces(spec.embedding).map(({ weights, firstRow }) =>
    embed(a.tokenRows, a.batch.ids, weights, a.layers[0].input, firstRow)
  );

/**
 * Adds the gradient of the residual stream to that of the embedding matrix. Rows of tokens that do not occur get none, so
 * the matrix is cleared first; one that is the head too was written whole.
 */
export const embedGradient = ({ config, activations: a, parameters, spec }: DecoderContext): KernelCall[] =>
  parameters.pieces(spec.embedding).flatMap(({ gradients, firstRow }) => [
    ...(spec.head ? [clear(a.tokenRows, gradients)] : []),
    embedBackward(
      a.distinctSlot,
      { ids: a.batch.distinctIds, starts: a.batch.distinctStarts, rows: a.batch.distinctRows },
      a.gradient,
      gradients,
      { firstRow, padTokenId: config.padTokenId },
    ),
  ]);

/** Where layer `l` puts its result: the next one's input. */
const layerOutput = (a: Activations, l: number): Tensor => a.layers[l + 1]?.input ?? a.output;

/** Everything of layer `l` that its backward pass needs, into `values`, and where given the activated values. */
function layerBody(context: DecoderContext, l: number, values: LayerKept, activated?: Tensor): KernelCall[] {
  const { config, parameters, spec, activations: a, attention } = context;
  const layer = spec.layers[l];
  const { input, inputNormed, inputRstd, qkv, lse, middle, middleNormed, middleRstd, gateUp } = values;
  const weight = (norm: ParameterSpec) => parameters.of(norm).weights;
  const rows = a.tokenRows;
  const shape = attentionShape(config);
  const { spans, queryTiles, keyTiles } = a.batch;
  return [
    rmsNorm(rows, input, weight(layer.inputNorm), inputNormed, inputRstd, config.rmsNormEps),
    ...linear(
      context,
      rows,
      layer.qkv,
      { x: inputNormed, y: qkv },
      ropeEpilogue(rows, spans, a.cosSin, qkv, shape),
    ),
    ...attention.forward(rows, { spans, queryTiles, keyTiles, qkv, out: values.attention, lse }),
    ...linear(context, rows, layer.output, { x: values.attention, y: middle, residual: input }),
    rmsNorm(rows, middle, weight(layer.postNorm), middleNormed, middleRstd, config.rmsNormEps),
    ...linear(
      context,
      rows,
      layer.gateUp,
      { x: middleNormed, y: gateUp },
      activated && swigluEpilogue(rows, gateUp, activated),
    ),
  ];
}

/**
 * Layer `l` forward:
 * qkv = rope(norm(input) Wqkv^T), middle = input + attention(qkv) Wo^T, output = middle + swiglu(norm(middle) Wgu^T) Wd^T.
 */
export function layerForward(context: DecoderContext, l: number): KernelCall[] {
  const { spec, activations: a } = context;
  const { input, forward, packed } = a.layers[l];
  const values = { ...forward, input };
  const { middle, activated } = forward;
  return [
    ...layerBody(context, l, values, activated),
    ...linear(context, a.tokenRows, spec.layers[l].down, {
      x: activated,
      y: layerOutput(a, l),
      residual: middle,
    }),
    ...LARGE.flatMap((name) => {
      const waits = packed[name];
      return waits ? [packRows(a.tokenRows, values[name], waits)] : [];
    }),
  ];
}

/**
 * Layer `l` backward: turns the gradient of its output (`gradient`) into that of its input, in place, and adds the
 * gradients of its parameters. Runs the layer's forward pass first where its activations were not kept.
 */
export function layerBackward(context: DecoderContext, l: number): KernelCall[] {
  const { config, parameters, spec, activations: a, attention } = context;
  const { kept, packed, recomputes, backward } = a.layers[l];
  const layer = spec.layers[l];
  const rows = a.tokenRows;
  const shape = attentionShape(config);

  const linearInput = (of: ParameterSpec, dY: Tensor, dX: Tensor, epilogue?: ProductEpilogue) =>
    linearInputGradient(context, { rows, adding: a.tokenRowsAdding }, of, { dY, dX }, epilogue);
  const linearWeight = (of: ParameterSpec, dY: Tensor, x: Tensor) =>
    linearWeightGradient(context, rows, of, { dY, x });
  /** A normed value is made again: keeping it would cost more than making it. */
  const norm = (of: ParameterSpec, t: { x: Tensor; rstd: Tensor; y: Tensor; dY: Tensor }) => ({
    again: rmsNorm(rows, t.x, parameters.of(of).weights, t.y, t.rstd, config.rmsNormEps),
    backward: rmsNormBackward(rows, {
      x: t.x,
      rstd: t.rstd,
      weight: parameters.of(of).weights,
      dWeight: parameters.of(of).gradients,
      dY: t.dY,
      dX: a.gradient,
      partial: a.normPartial,
    }, true),
  });
  const inputNorm = norm(layer.inputNorm, {
    x: kept.input,
    rstd: kept.inputRstd,
    y: backward.inputNormed,
    dY: backward.gradientInputNormed,
  });
  const postNorm = norm(layer.postNorm, {
    x: kept.middle,
    rstd: kept.middleRstd,
    y: backward.middleNormed,
    dY: backward.gradientMiddleNormed,
  });

  return [
    ...LARGE.flatMap((name) => {
      const waits = packed[name];
      return waits ? [unpackRows(rows, waits, kept[name])] : [];
    }),
    ...(recomputes ? layerBody(context, l, kept) : []),
    // MLP. The epilogue turns gateUp into its gradient, and leaves the activated values where theirs was.
    ...linearInput(
      layer.down,
      a.gradient,
      backward.activated,
      swigluBackwardEpilogue(rows, kept.gateUp, backward.activated),
    ),
    ...linearWeight(layer.down, a.gradient, backward.activated),
    ...linearInput(layer.gateUp, kept.gateUp, backward.gradientMiddleNormed),
    postNorm.again,
    ...linearWeight(layer.gateUp, kept.gateUp, backward.middleNormed),
    ...postNorm.backward,
    // Attention.
    ...linearInput(layer.output, a.gradient, backward.gradientAttention),
    ...linearWeight(layer.output, a.gradient, kept.attention),
    ...attention.backward(rows, {
      spans: a.batch.spans,
      queryTiles: a.batch.queryTiles,
      keyTiles: a.batch.keyTiles,
      qkv: kept.qkv,
      out: kept.attention,
      lse: kept.lse,
      dOut: backward.gradientAttention,
      delta: backward.delta,
      dQkv: backward.gradientQkv,
    }),
    rope(rows, a.batch.spans, a.cosSin, backward.gradientQkv, shape, true),
    ...linearInput(layer.qkv, backward.gradientQkv, backward.gradientInputNormed),
    inputNorm.again,
    ...linearWeight(layer.qkv, backward.gradientQkv, backward.inputNormed),
    ...inputNorm.backward,
  ];
}
