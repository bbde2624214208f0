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
  layerTypes,
  noDropout,
  slidingWindow,
  type Windows,
  windowsOf,
} from "./keys.ts";

export interface SmolLm3Config extends GatedConfig, Windows {
  /**
   * For each layer, despite the name: 0 is one without positions (NoPE), any other number one that rotates queries
   * and keys.
   */
  noRopeLayers: number[];
  attentionBias: boolean;
  mlpBias: boolean;
}

/** transformers' `modeling_smollm3.py`: Llama without positions in every fourth layer (NoPE). */
export const smollm3: Architecture<SmolLm3Config> = {
  modelType: "smollm3",
  className: "SmolLM3ForCausalLM",
  baseModelPrefix: "model",

  config(fields) {
    const base = decoderKeys(fields, {
      vocab_size: 128256,
      hidden_size: 2048,
      num_hidden_layers: 36,
      max_position_embeddings: 32768,
      tie_word_embeddings: true,
      pad_token_id: 128004,
    });
    noDropout(fields, ["attention_dropout"]);
    const noRopeLayers = parseNoRopeLayers(fields, base.numHiddenLayers);
    const window = slidingWindow(fields, undefined);
    const isSliding = fields.boolean("use_sliding_window") && window !== undefined;
    const heads = headKeys(fields, base, { num_attention_heads: 16, num_key_value_heads: 4 }, [
      "num_key_value_heads",
    ]);
    return {
      ...base,
      ...heads,
      ...gatedKeys(fields, { ...base, ...heads }, { intermediate_size: 11008, rms_norm_eps: 1e-6 }, {
        theta: 2_000_000,
      }),
      slidingWindow: window,
      layerTypes: layerTypes(
        fields,
        base,
        window,
        (l) => isSliding && !noRopeLayers[l] ? "sliding_attention" : "full_attention",
      ),
      noRopeLayers,
      attentionBias: fields.boolean("attention_bias"),
      mlpBias: fields.boolean("mlp_bias"),
    };
  },

  net(c) {
    const [shape, rope, epsilon] = [attentionShape(c), c.rope, c.rmsNormEps];
    const windows = windowsOf(c);

    return causalLm(c, { kind: "rms", epsilon }, (net, x, l) => {
      const h = net.rmsNorm(x, "input_layernorm", epsilon);
      const qkv = qkvProjection(net, h, shape, { bias: c.attentionBias });
      const positioned = c.noRopeLayers[l] ? net.rope(qkv, shape, rope) : qkv;
      const heads = net.attention(positioned, shape, { window: windows[l] });
      x = net.add(x, net.linear(heads, { "self_attn.o_proj": c.hiddenSize }, { bias: c.attentionBias }));
      const normed = net.rmsNorm(x, "post_attention_layernorm", epsilon);
      return net.add(x, gatedMlp(net, normed, c, { bias: c.mlpBias }));
    });
  },
};

function parseNoRopeLayers(fields: Fields, layers: number): number[] {
  const list = fields.value("no_rope_layers") ?? null;
  if (list === null) {
    const interval = fields.count("no_rope_layer_interval", 2 ** 31, 4);
    return Array.from({ length: layers || 0 }, (_, l) => Number((l + 1) % interval > 0));
  }
  if (!Array.isArray(list) || !list.every(Number.isInteger) || list.length < layers) {
    fields.problem(`no_rope_layers: expected 0 or 1 for each of ${layers} layers, found ${show(list)}`);
    return [];
  }
  return list;
}
