"""Which tokens transformers keeps, and how likely each is then: python tests/golden/sampling/make.py > tests/golden/sampling/kept.json

Made with transformers 5.17.0 and torch 2.13.0.
"""

import json

import torch
from transformers import LogitsProcessorList
from transformers.generation.logits_process import (
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

torch.manual_seed(0)
cases = []
for temperature, top_k, top_p, min_p, repetition in [
    (1.0, 0, 1.0, 0.0, 1.0),
    (0.7, 20, 1.0, 0.0, 1.0),
    (1.5, 0, 0.8, 0.0, 1.0),
    (1.0, 0, 1.0, 0.08, 1.0),
    (0.9, 30, 0.9, 0.05, 1.0),
    (1.2, 10, 0.5, 0.2, 1.0),
    (0.3, 1, 0.1, 0.0, 1.0),
    (2.0, 64, 0.99, 0.001, 1.3),
    (0.8, 12, 0.95, 0.0, 0.7),
    (1.0, 3, 1e-6, 0.0, 1.8),
]:
    logits = torch.randn(1, 64) * 2.5
    prompt = torch.randint(0, 64, (1, 12))
    # transformers' own order: see _get_logits_processor of generation/utils.py.
    steps = LogitsProcessorList()
    if repetition != 1.0:
        steps.append(RepetitionPenaltyLogitsProcessor(repetition))
    if temperature != 1.0:
        steps.append(TemperatureLogitsWarper(temperature))
    if top_k:
        steps.append(TopKLogitsWarper(top_k))
    if top_p < 1.0:
        steps.append(TopPLogitsWarper(top_p))
    if min_p:
        steps.append(MinPLogitsWarper(min_p))
    probabilities = steps(prompt, logits.clone()).softmax(-1)[0]
    cases.append(
        {
            "sampling": {
                "temperature": temperature,
                "topK": top_k,
                "topP": top_p,
                "minP": min_p,
                "repetitionPenalty": repetition,
            },
            "prompt": prompt[0].tolist(),
            "logits": logits[0].tolist(),
            "probabilities": {i: p for i, p in enumerate(probabilities.tolist()) if p > 0},
        }
    )
print(json.dumps(cases))
