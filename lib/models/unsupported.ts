/** Models of transformers that are not here, and what they would need; by `model_type`. */
const NEEDS: Record<string, string> = {
  "needs experts (a mixture of experts)": `
    afmoe cohere2_moe dbrx deepseek dots1 ernie4_5_moe exaone_moe flex_olmo glm4_moe glm4_moe_lite
    gpt_oss granitemoe granitemoe_swa granitemoeshared grok hunyuan_v1_moe hy_v3 jetmoe laguna llama4
    llama4_text mellum mimo_v2_flash minimax minimax_m2 mixtral nllb-moe olmoe phimoe qwen2_moe
    qwen3_moe solar_open
  `,
  "needs latent attention (MLA)": `
    minicpm3 youtu
  `,
  "needs latent attention (MLA) and experts": `
    axk1 deepseek_v2 deepseek_v3 deepseek_v32 deepseek_v4 glm_moe_dsa kimi_k2 longcat_flash mistral4
  `,
  "needs linear attention or a state space": `
    bamba falcon_h1 falcon_mamba granitemoehybrid jamba kimi_linear lfm2 lfm2_moe mamba mamba2
    nemotron_h olmo_hybrid qwen3_5 qwen3_5_text qwen3_5_moe qwen3_5_moe_text qwen3_next recurrent_gemma
    rwkv xlstm zamba zamba2 zaya
  `,
  "has an encoder besides its decoder": `
    bart bigbird_pegasus blenderbot blenderbot-small fsmt led longt5 m2m_100 marian mbart mt5 mvp
    pegasus pegasus_x plbart prophetnet speech_to_text switch_transformers t5 t5gemma t5gemma2 trocr
    udop umt5 whisper
  `,
  "is an encoder, which does not continue texts": `
    albert bert camembert deberta deberta-v2 distilbert electra ernie eurobert mobilebert modernbert
    mpnet nomic_bert roberta xlm-roberta xlm-roberta-xl
  `,
  "needs learned positions or ALiBi": `
    biogpt bloom ctrl gpt2 gpt_bigcode gpt_neo mpt openai-gpt opt xglm
  `,
  "needs inputs of each layer's own and shared keys and values": `
    gemma3n gemma3n_text gemma4 gemma4_text
  `,
  "needs differential attention": `
    diffllama
  `,
  "needs ternary weights": `
    bitnet
  `,
  "needs an activation with weights of its own": `
    apertus
  `,
  "is multimodal, and its text part is not trained alone here": `
    aria aya_vision blip blip-2 chameleon cohere2_vision emu3 ernie4_5_vl_moe florence2 fuyu glm46v
    glm4v glm4v_moe idefics idefics2 instructblip janus kimi_k25 kosmos-2 lfm2_vl minimax_m3_vl mllama
    ovis2 paligemma phi4_multimodal qwen2_5_omni qwen2_5_vl qwen2_audio qwen2_vl qwen3_omni_moe qwen3_vl
    qwen3_vl_moe video_llava voxtral
  `,
};

/** What a `model_type` that is not supported would need, where that is known. */
export const whatIsMissing = (modelType: string): string | undefined =>
  Object.keys(NEEDS).find((need) => NEEDS[need].trim().split(/\s+/).includes(modelType));
