/** The kernels of one decoder layer, forward and backward, and of the embedding below the layers. */
import {
  attention,
  attentionBackward,
  embed,
  embedBackward,
  gemm,
  rmsNorm,
  rmsNormBackward,
  rope,
  swiglu,
  swigluBackward,
} from "../gpu/operations.ts";
import type { Tensor } from "../gpu/memory.ts";
import type { KernelCall } from "../gpu/program.ts";
import type { AttentionShape } from "../../kernels/attention.ts";
import type { DeviceClass } from "../gpu/tuning.ts";
import type { Activations, LayerForward } from "./activations.ts";
import type { ModelConfig } from "./config.ts";
import type { DecoderSpec, LayerSpec } from "./llama.ts";
import type { Parameters } from "./parameters.ts";

/** What the kernel lists are built from. */
export interface DecoderContext {
  config: ModelConfig;
  spec: DecoderSpec;
  parameters: Parameters;
  activations: Activations;
  /** Picks the tiles of matrix products. */
  device: DeviceClass;
}

export const attentionShape = (config: ModelConfig): AttentionShape => ({
  heads: config.numAttentionHeads,
  keyValueHeads: config.numKeyValueHeads,
  headDim: config.headDim,
});

/** x = embedding of the batch's tokens, into the first layer's input. */
export const embedForward = ({ activations: a, parameters, spec }: DecoderContext): KernelCall =>
  embed(a.tokenRows, a.batch.ids, parameters.of(spec.embedding).weights, a.layers[0].input);

/** Adds the gradient of the residual stream to that of the embedding matrix. */
export const embedGradient = ({ config, activations: a, parameters, spec }: DecoderContext): KernelCall =>
  embedBackward(
    a.distinctSlot,
    { ids: a.batch.distinctIds, starts: a.batch.distinctStarts, rows: a.batch.distinctRows },
    a.gradient,
    parameters.of(spec.embedding).gradients,
    config.padTokenId,
  );

/** Where layer `l` puts its result: the next one's input. */
const layerOutput = (a: Activations, l: number): Tensor => a.layers[l + 1]?.input ?? a.output;

/** Everything of layer `l` that its backward pass needs, into `values`: all but the last product. */
function layerBody(
  { config, parameters, spec, activations: a, device }: DecoderContext,
  l: number,
  values: LayerForward,
): KernelCall[] {
  const { input } = a.layers[l];
  const { inputNormed, inputRstd, qkv, lse, middle, middleNormed, middleRstd, gateUp } = values;
  const weights = (name: keyof LayerSpec) => parameters.of(spec.layers[l][name]).weights;
  const rows = a.tokenRows;
  const shape = attentionShape(config);
  const { spans, queryTiles } = a.batch;
  return [
    rmsNorm(rows, input, weights("inputNorm"), inputNormed, inputRstd, config.rmsNormEps),
    gemm("nt", rows, { a: inputNormed, b: weights("qkv"), c: qkv }, device),
    rope(rows, spans, a.cosSin, qkv, shape),
    attention(rows, { spans, queryTiles, qkv, out: values.attention, lse }, shape),
    gemm(
      "nt",
      rows,
      { a: values.attention, b: weights("output"), c: middle, residual: input },
      device,
      "residual",
    ),
    rmsNorm(rows, middle, weights("postNorm"), middleNormed, middleRstd, config.rmsNormEps),
    gemm("nt", rows, { a: middleNormed, b: weights("gateUp"), c: gateUp }, device),
  ];
}

/**
 * Layer `l` forward:
 * qkv = rope(norm(input) Wqkv^T), middle = input + attention(qkv) Wo^T, output = middle + swiglu(norm(middle) Wgu^T) Wd^T.
 */
export function layerForward(context: DecoderContext, l: number): KernelCall[] {
  const { parameters, spec, activations: a, device } = context;
  const { forward } = a.layers[l];
  const { gateUp, middle, activated } = forward;
  const down = parameters.of(spec.layers[l].down).weights;
  return [
    ...layerBody(context, l, forward),
    swiglu(a.tokenRows, gateUp, activated),
    gemm(
      "nt",
      a.tokenRows,
      { a: activated, b: down, c: layerOutput(a, l), residual: middle },
      device,
      "residual",
    ),
  ];
}

/**
 * Layer `l` backward: turns the gradient of its output (`gradient`) into that of its input, in place, and adds the
 * gradients of its parameters. Runs the layer's forward pass first where its activations were not kept.
 */
export function layerBackward(context: DecoderContext, l: number): KernelCall[] {
  const { config, parameters, spec, activations: a, device } = context;
  const { input, forward, kept, backward } = a.layers[l];
  const weights = (name: keyof LayerSpec) => parameters.of(spec.layers[l][name]).weights;
  const gradients = (name: keyof LayerSpec) => parameters.of(spec.layers[l][name]).gradients;
  const rows = a.tokenRows;
  const shape = attentionShape(config);

  /** d_input = d_output W, and W's gradient += d_output^T input. */
  const linearInput = (name: keyof LayerSpec, dOutput: Tensor, dInput: Tensor) =>
    gemm("nn", rows, { a: dOutput, b: weights(name), c: dInput }, device);
  const linearWeight = (name: keyof LayerSpec, dOutput: Tensor, input: Tensor) =>
    gemm("tn", rows, { a: dOutput, b: input, c: gradients(name) }, device, "accumulate");
  /** A normed value is made again: keeping it would cost more than making it. */
  const norm = (name: "inputNorm" | "postNorm", t: { x: Tensor; rstd: Tensor; y: Tensor; dY: Tensor }) => ({
    again: rmsNorm(rows, t.x, weights(name), t.y, t.rstd, config.rmsNormEps),
    backward: rmsNormBackward(rows, {
      x: t.x,
      rstd: t.rstd,
      weight: weights(name),
      dWeight: gradients(name),
      dY: t.dY,
      dX: a.gradient,
      partial: a.normPartial,
    }, true),
  });
  const inputNorm = norm("inputNorm", {
    x: input,
    rstd: kept.inputRstd,
    y: backward.inputNormed,
    dY: backward.gradientInputNormed,
  });
  const postNorm = norm("postNorm", {
    x: kept.middle,
    rstd: kept.middleRstd,
    y: backward.middleNormed,
    dY: backward.gradientMiddleNormed,
  });

  return [
    ...(kept === forward ? [] : layerBody(context, l, kept)),
    // MLP. `swigluBackward` turns gateUp into its gradient, and leaves the activated values where their gradient was.
    linearInput("down", a.gradient, backward.activated),
    swigluBackward(rows, kept.gateUp, backward.activated),
    linearWeight("down", a.gradient, backward.activated),
    linearInput("gateUp", kept.gateUp, backward.gradientMiddleNormed),
    postNorm.again,
    linearWeight("gateUp", kept.gateUp, backward.middleNormed),
    ...postNorm.backward,
    // Attention.
    linearInput("output", a.gradient, backward.gradientAttention),
    linearWeight("output", a.gradient, kept.attention),
    ...attentionBackward(rows, {
      spans: a.batch.spans,
      queryTiles: a.batch.queryTiles,
      keyTiles: a.batch.keyTiles,
      qkv: kept.qkv,
      out: kept.attention,
      lse: kept.lse,
      dOut: backward.gradientAttention,
      delta: backward.delta,
      dQkv: backward.gradientQkv,
    }, shape),
    rope(rows, a.batch.spans, a.cosSin, backward.gradientQkv, shape, true),
    linearInput("qkv", backward.gradientQkv, backward.gradientInputNormed),
    inputNorm.again,
    linearWeight("qkv", backward.gradientQkv, backward.inputNormed),
    ...inputNorm.backward,
  ];
}
