"""Tiny random checkpoints, as transformers saves them, with biases and norms away from 0 and 1, so that leaving one out shows.

Run by make.sh. The tokenizer is that of ../llama/untied.
"""
import os, shutil, sys
import torch, transformers

here = sys.argv[1]
COMMON = dict(vocab_size=303, hidden_size=36, intermediate_size=50, num_hidden_layers=3, num_attention_heads=3, num_key_value_heads=1,
              max_position_embeddings=512, bos_token_id=0, eos_token_id=2, pad_token_id=3, initializer_range=0.1, tie_word_embeddings=True)
MODELS = {
    "llama-biases": transformers.LlamaConfig(**COMMON, attention_bias=True, mlp_bias=True),
    "qwen2": transformers.Qwen2Config(**COMMON, use_sliding_window=True, sliding_window=20, max_window_layers=1),
    "qwen3": transformers.Qwen3Config(**COMMON, head_dim=20, attention_bias=True),
}
for seed, (name, config) in enumerate(MODELS.items()):
    torch.manual_seed(seed)
    model = transformers.AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 1:
                parameter.add_(torch.randn(parameter.shape) * 0.3)
    model.save_pretrained(f"{here}/{name}")
    for file in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copyfile(f"{here}/../llama/untied/{file}", f"{here}/{name}/{file}")
