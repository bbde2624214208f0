"""SimPER steps of a Hugging Face model in PyTorch float32, on a GPU where there is one (without TF32) or on two threads, batched as a common trainer does (TRL's DPOTrainer):
chosen and rejected one under the other, padded to the longest sequence of the batch, logits at every position.

    python torch_pairs.py MODEL_FOLDER PAIRS.json     PAIRS.json as bench/pairs.ts writes it

Prints a line of JSON: a loss and seconds for each step.
"""
import json
import sys
import time

import torch
import transformers
from transformers import AutoModelForCausalLM

torch.set_num_threads(2)
torch.backends.cuda.matmul.allow_tf32 = False
device = "cuda" if torch.cuda.is_available() else "cpu"
folder, file = sys.argv[1:]
with open(file) as text:
    task = json.load(text)

model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).to(device)
layers = task["layers"]
model.model.layers = model.model.layers[:layers]
model.config.num_hidden_layers = layers
model.train()
optimizer = torch.optim.AdamW(
    model.parameters(), lr=task["learning_rate"], betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0
)


def padded(sequences):
    """Ids, mask and labels, [sequences, longest]; labels are -100 where none is."""
    longest = max(len(sequence["ids"]) for sequence in sequences)
    ids = torch.zeros(len(sequences), longest, dtype=torch.long)
    mask = torch.zeros_like(ids)
    labels = torch.full_like(ids, -100)
    for i, sequence in enumerate(sequences):
        tokens = torch.tensor(sequence["ids"])
        first = sequence["promptLength"]
        ids[i, : len(tokens)] = tokens
        mask[i, : len(tokens)] = 1
        labels[i, first : len(tokens)] = tokens[first:]
    return ids.to(device), mask.to(device), labels.to(device)


def mean_logps(ids, mask, labels):
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
    labels = labels[:, 1:]
    counted = labels != -100
    chosen = logits.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    # A sequence at a time, as TRL does, to hold less at once.
    logps = chosen - torch.stack([row.logsumexp(-1) for row in logits])
    return (logps * counted).sum(-1) / counted.sum(-1)


losses, seconds = [], []
for batch in task["batches"]:
    start = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    sequences = [pair["chosen"] for pair in batch] + [pair["rejected"] for pair in batch]
    chosen, rejected = mean_logps(*padded(sequences)).chunk(2)
    loss = (rejected.exp() - chosen.exp()).mean()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), task["max_grad_norm"])
    optimizer.step()
    losses.append(loss.item())
    seconds.append(time.perf_counter() - start)

print(json.dumps({
    "name": f"PyTorch {torch.__version__}, transformers {transformers.__version__}, "
    + (torch.cuda.get_device_name() if device == "cuda" else "CPU, 2 threads"),
    "losses": losses,
    "seconds": seconds,
}))
