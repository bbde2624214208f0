"""SimPER steps (torch_simper.py) of a Hugging Face model in PyTorch float32, on a GPU where there is one (without TF32) or on two threads.

    python torch_pairs.py MODEL_FOLDER PAIRS.json     PAIRS.json as bench/pairs.ts writes it

Prints a line of JSON: a loss and seconds for each step.
"""
import json
import sys
import time

import torch
import transformers
from transformers import AutoModelForCausalLM

from torch_simper import loss_of

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

losses, seconds = [], []
for batch in task["batches"]:
    start = time.perf_counter()
    optimizer.zero_grad(set_to_none=True)
    loss = loss_of(model, batch, device)
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
