/** The kernels of one decoder layer, forward and backward, and of the embedding below the layers. */
import {
  embed,
  embedBackward,
  rmsNorm,
  rmsNormBackward,
  rope,
  swiglu,
  swigluBackward,
} from "../gpu/operations.ts";
import type { Tensor } from "../gpu/memory.ts";
import type { KernelCall } from "../gpu/program.ts";
import type { AttentionShape } from "../../kernels/attention.ts";
import type { Attention } from "../gpu/attention_operations.ts";
import type { Products } from "../gpu/products.ts";
import type { Activations } from "./activations.ts";
import type { ModelConfig } from "./config.ts";
import type { DecoderSpec, LayerSpec } from "./llama.ts";
import type { Parameters } from "./parameters.ts";

/** What the kernel lists are built from. */
export interface DecoderContext {
  config: ModelConfig;
  spec: DecoderSpec;
  parameters: Parameters;
  activations: Activations;
  products: Products;
  attention: Attention;
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

/** Everything of layer `l` that its backward pass needs: all but the last product. */
function layerBody(
  { config, parameters, spec, activations: a, products, attention }: DecoderContext,
  l: number,
): KernelCall[] {
  const layer = a.layers[l];
  const weights = (name: keyof LayerSpec) => parameters.of(spec.layers[l][name]).weights;
  const rows = a.tokenRows;
  const shape = attentionShape(config);
  const { spans, queryTiles, keyTiles } = a.batch;
  return [
    rmsNorm(rows, layer.input, weights("inputNorm"), a.normed, layer.inputRstd, config.rmsNormEps),
    ...products.calls("nt", rows, { a: a.normed, b: weights("qkv"), c: layer.qkv }),
    rope(rows, spans, a.cosSin, layer.qkv, shape),
    ...attention.forward(rows, {
      spans,
      queryTiles,
      keyTiles,
      qkv: layer.qkv,
      out: layer.attention,
      lse: layer.lse,
    }),
    ...products.calls(
      "nt",
      rows,
      { a: layer.attention, b: weights("output"), c: layer.middle, residual: layer.input },
    ),
    rmsNorm(rows, layer.middle, weights("postNorm"), a.normed, layer.middleRstd, config.rmsNormEps),
    ...products.calls("nt", rows, { a: a.normed, b: weights("gateUp"), c: layer.gateUp }),
  ];
}

/**
 * Layer `l` forward:
 * qkv = rope(norm(input) Wqkv^T), middle = input + attention(qkv) Wo^T, output = middle + swiglu(norm(middle) Wgu^T) Wd^T.
 */
export function layerForward(context: DecoderContext, l: number): KernelCall[] {
  const { parameters, spec, activations: a, products } = context;
  const { gateUp, middle } = a.layers[l];
  const down = parameters.of(spec.layers[l].down).weights;
  return [
    ...layerBody(context, l),
    swiglu(a.tokenRows, gateUp, a.activated),
    ...products.calls(
      "nt",
      a.tokenRows,
      { a: a.activated, b: down, c: layerOutput(a, l), residual: middle },
    ),
  ];
}

/**
 * Layer `l` backward: turns the gradient of its output (`gradient`) into that of its input, in place, and adds the
 * gradients of its parameters. `recompute` runs the layer's forward pass first, where its activations were not kept.
 */
export function layerBackward(context: DecoderContext, l: number, recompute: boolean): KernelCall[] {
  const { config, parameters, spec, activations: a, products, attention } = context;
  const layer = a.layers[l];
  const weights = (name: keyof LayerSpec) => parameters.of(spec.layers[l][name]).weights;
  const gradients = (name: keyof LayerSpec) => parameters.of(spec.layers[l][name]).gradients;
  const rows = a.tokenRows;
  const shape = attentionShape(config);

  /** d_input = d_output W, and W's gradient += d_output^T input. */
  const linearInput = (name: keyof LayerSpec, dOutput: Tensor, dInput: Tensor) =>
    products.calls("nn", rows, { a: dOutput, b: weights(name), c: dInput });
  const linearWeight = (name: keyof LayerSpec, dOutput: Tensor, input: Tensor) =>
    products.calls("tn", rows, { a: dOutput, b: input, c: gradients(name) }, true);
  const norm = (name: "inputNorm" | "postNorm", x: Tensor, rstd: Tensor) => ({
    again: rmsNorm(rows, x, weights(name), a.normed, rstd, config.rmsNormEps),
    backward: rmsNormBackward(rows, {
      x,
      rstd,
      weight: weights(name),
      dWeight: gradients(name),
      dY: a.gradientNormed,
      dX: a.gradient,
      partial: a.normPartial,
    }, true),
  });
  const inputNorm = norm("inputNorm", layer.input, layer.inputRstd);
  const postNorm = norm("postNorm", layer.middle, layer.middleRstd);

  return [
    ...(recompute ? layerBody(context, l) : []),
    // MLP. `swigluBackward` leaves the activated values where their gradient was.
    ...linearInput("down", a.gradient, a.activated),
    swigluBackward(rows, layer.gateUp, a.activated),
    ...linearWeight("down", a.gradient, a.activated),
    ...linearInput("gateUp", layer.gateUp, a.gradientNormed),
    postNorm.again,
    ...linearWeight("gateUp", layer.gateUp, a.normed),
    ...postNorm.backward,
    // Attention.
    ...linearInput("output", a.gradient, a.gradientAttention),
    ...linearWeight("output", a.gradient, layer.attention),
    ...attention.backward(rows, {
      spans: a.batch.spans,
      queryTiles: a.batch.queryTiles,
      keyTiles: a.batch.keyTiles,
      qkv: layer.qkv,
      out: layer.attention,
      lse: layer.lse,
      dOut: a.gradientAttention,
      delta: a.delta,
      dQkv: a.gradientQkv,
    }),
    rope(rows, a.batch.spans, a.cosSin, a.gradientQkv, shape, true),
    ...linearInput("qkv", a.gradientQkv, a.gradientNormed),
    inputNorm.again,
    ...linearWeight("qkv", a.gradientQkv, a.normed),
    ...inputNorm.backward,
  ];
}
