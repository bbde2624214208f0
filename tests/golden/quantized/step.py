"""The first step of the golden pairs over frozen weights in 4 and 8 bits: every linear layer but the head, and but rows of 62, is replaced by
what bitsandbytes makes of it on the processor, in float32, and the norms are trained. From the project's root:
PYTHON tests/golden/quantized/step.py > tests/golden/quantized/step.json (bitsandbytes 0.50.2, torch 2.13.0, transformers 5.17.0)"""
import json

import bitsandbytes.functional as F
import torch
from transformers import AutoModelForCausalLM

MODEL = "tests/golden/llama/untied"
WAYS = {"nf4": {"quant_type": "nf4"}, "fp4 double": {"quant_type": "fp4", "compress_statistics": True}, "int8": None}


def stands_for(weight, way):
    if way is None:
        codes, absmax, _ = F.int8_vectorwise_quant(weight)
        return F.int8_vectorwise_dequant(codes, absmax)
    return F.dequantize_4bit(*F.quantize_4bit(weight.contiguous(), **way))


def mean_log_probability(model, ids, labels):
    logits = model(torch.tensor([ids])).logits[0, :-1]
    wanted = torch.tensor(labels[1:])
    found = torch.log_softmax(logits, -1).gather(-1, wanted.clamp(min=0)[:, None])[:, 0]
    return found[wanted != -100].mean()


if __name__ == "__main__":
    pairs = json.load(open(f"{MODEL}-golden/golden.json"))["pairs"][:4]
    result = {}
    for name, way in WAYS.items():
        model = AutoModelForCausalLM.from_pretrained(MODEL, dtype=torch.float32)
        for key, parameter in model.named_parameters():
            parameter.requires_grad_("norm" in key)
            if key.endswith("_proj.weight") and parameter.shape[1] % 4 == 0:
                parameter.data = stands_for(parameter.data, way).view(parameter.shape)
        means = []
        for pair in pairs:
            chosen, rejected = (
                mean_log_probability(model, pair[f"{side}_input_ids"], pair[f"{side}_labels"]) for side in ("chosen", "rejected")
            )
            ((rejected.exp() - chosen.exp()) / len(pairs)).backward()
            means.append([chosen.item(), rejected.item()])
        gradients = {key: p.grad.tolist() for key, p in model.named_parameters() if p.grad is not None}
        result[name] = {"means": means, "gradients": gradients}
    print(json.dumps(result))
