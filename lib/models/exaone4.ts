import { show } from "../text/json.ts";
import type { Architecture } from "./architecture.ts";
import { attentionShape, gatedMlp, qkvProjection } from "./blocks.ts";
import { causalLm } from "./causal_lm.ts";
import type { Fields } from "./fields.ts";
import {
  decoderKeys,
  type GatedConfig,
  gatedKeys,
  headKeys,
  type LayerType,
  layerTypes,
  noDropout,
  slidingWindow,
  windowPattern,
  type Windows,
  windowsOf,
} from "./keys.ts";

export interface Exaone4Config extends GatedConfig, Windows {}

/**
 * transformers' `modeling_exaone4.py`: norms after attention and MLP instead of before, queries and keys normed head
 * by head, and windows in most layers; where there are windows, the others have no positions (NoPE).
 */
export const exaone4: Architecture<Exaone4Config> = {
  modelType: "exaone4",
  className: "Exaone4ForCausalLM",
  baseModelPrefix: "model",

  config(fields) {
    const base = decoderKeys(fields, {
      vocab_size: 102400,
      hidden_size: 4096,
      num_hidden_layers: 32,
      max_position_embeddings: 2048,
    });
    noDropout(fields, ["attention_dropout"]);
    const window = slidingWindow(fields, 4096);
    const heads = headKeys(fields, base, { num_attention_heads: 32, num_key_value_heads: 32 });
    return {
      ...base,
      ...heads,
      ...gatedKeys(fields, { ...base, ...heads }, { intermediate_size: 16384, rms_norm_eps: 1e-5 }),
      slidingWindow: window,
      layerTypes: layerTypes(fields, base, window, patternOf(fields, window)),
    };
  },

  net(c) {
    const [shape, rope, epsilon] = [attentionShape(c), c.rope, c.rmsNormEps];
    const windows = windowsOf(c);

    return causalLm(c, { kind: "rms", epsilon }, (net, x, l) => {
      const qkv = qkvProjection(net, x, shape);
      const normed = net.headNorm(qkv, { q: "self_attn.q_norm", k: "self_attn.k_norm" }, shape, epsilon);
      const isRotated = c.slidingWindow === undefined || windows[l] !== undefined;
      const positioned = isRotated ? net.rope(normed, shape, rope) : normed;
      const heads = net.attention(positioned, shape, { window: windows[l] });
      const attended = net.linear(heads, { "self_attn.o_proj": c.hiddenSize });
      x = net.add(x, net.rmsNorm(attended, "post_attention_layernorm", epsilon));
      return net.add(x, net.rmsNorm(gatedMlp(net, x, c), "post_feedforward_layernorm", epsilon));
    });
  },
};

/** transformers can do without `layer_types` only where there is a window and the pattern is a number. */
function patternOf(fields: Fields, window: number | undefined): (layer: number) => LayerType {
  const isNamed = (fields.value("layer_types") ?? null) !== null;
  const pattern = fields.value("sliding_window_pattern");
  if (!isNamed && (window === undefined || typeof pattern === "string" || pattern === null)) {
    fields.problem(
      `layer_types: expected as transformers cannot do without beside ` +
        (window === undefined ? "sliding_window: null" : `sliding_window_pattern: ${show(pattern)}`),
    );
    return () => "full_attention";
  }
  return windowPattern(fields, 4);
}
