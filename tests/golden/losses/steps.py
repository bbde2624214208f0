"""Eight optimizer steps of DPO, SimPO, ORPO and KTO in PyTorch float32 on the CPU: what the project's runs must look like.

    python tests/golden/losses/steps.py > tests/golden/losses/steps.json

It ran with PyTorch 2.13 and transformers 5.17. Model and tokens are those of tests/golden/llama (untied), whose run.yaml's keys
hold but for those of KEYS. The reference is the model as it starts. Losses are TRL 1.13's on each micro-batch, but that
ORPO's likelihood is the mean over each chosen response's tokens. Of each tensor of the result the norm of its change is kept.
"""
import json
import math
import os

import torch
import torch.nn.functional as F
from transformers import AutoModelForCausalLM

HERE = os.path.dirname(os.path.abspath(__file__))
LLAMA = os.path.join(HERE, "..", "llama")
KEYS = {"sigmoid": dict(beta=0.5), "simpo": dict(beta=2.0, simpo_gamma=1.0), "orpo": dict(beta=0.4),
        "kto": dict(beta=0.5, desirable_weight=1.25)}
RATE, WARM, STEPS, MICRO, PER_STEP, CLIP = 1e-3, 1, 8, 2, 4, 1e-3
MOST = 96  # max_length


def sums(model, row):
    ids, labels = row
    logits = model(torch.tensor([ids])).logits[0, :-1].log_softmax(-1)
    at = [i for i in range(1, len(ids)) if labels[i]]
    return sum(logits[i - 1, ids[i]] for i in at), len(at)


def read_pairs():
    golden = json.load(open(os.path.join(LLAMA, "untied-golden", "golden.json")))
    return [tuple((p[f"{s}_input_ids"], [l != -100 for l in p[f"{s}_labels"]]) for s in ("chosen", "rejected")) for p in golden["pairs"]]


def examples(pairs):
    """As `unpair_preference_dataset` and KTOTrainer make them: with the completion of the one before, of batches of MICRO."""
    rows = [(p[0], True) for p in pairs] + [(p[1], False) for p in pairs]
    made = []
    for at in range(0, len(rows), MICRO):
        batch = rows[at : at + MICRO]
        for i, (row, desirable) in enumerate(batch):
            (ids, labels), (other, others) = row, batch[i - 1][0]
            n, m = labels.index(True), others.index(True)
            mixed = (ids[:n] + other[m:])[:MOST]
            made.append((row, (mixed, [False] * n + [True] * (len(mixed) - n)), desirable))
    return made


def loss_of(kind, c, batch):
    """Loss summed over a micro-batch, and the rewards: of (sum, labels, reference) of both responses, and what was judged."""
    chosen, rejected, kl = [], [], None
    if kind == "kto":
        kl = (sum(r - ref for _, (r, _, ref), _ in batch) / len(batch)).detach().clamp(min=0)
    total = 0.0
    for (s, n, ref), (t, m, other), desirable in batch:
        if kind == "sigmoid":
            total = total - F.logsigmoid(c["beta"] * ((s - ref) - (t - other)))
            rewards = c["beta"] * (s - ref), c["beta"] * (t - other)
        elif kind == "simpo":
            total = total - F.logsigmoid(c["beta"] * (s / n - t / m) - c["simpo_gamma"])
            rewards = c["beta"] * s / n, c["beta"] * t / m
        elif kind == "orpo":
            odds = (s / n - t / m) - (torch.log1p(-torch.exp(s / n)) - torch.log1p(-torch.exp(t / m)))
            total = total - s / n - c["beta"] * F.logsigmoid(odds)
            rewards = c["beta"] * s / n, c["beta"] * t / m
        else:
            x = c["beta"] * (s - ref - kl)
            total = total + (c["desirable_weight"] * (1 - torch.sigmoid(x)) if desirable else 1 - torch.sigmoid(-x))
            (chosen if desirable else rejected).append((c["beta"] * (s - ref)).item())
            continue
        chosen.append(rewards[0].item()); rejected.append(rewards[1].item())
    return total, chosen, rejected, kl


def run(kind, c):
    model = AutoModelForCausalLM.from_pretrained(os.path.join(LLAMA, "untied"), dtype=torch.float32, attn_implementation="eager").eval()
    start = {n: p.detach().clone() for n, p in model.named_parameters()}
    pairs = read_pairs()
    data = examples(pairs) if kind == "kto" else [(*p, None) for p in pairs]
    with torch.no_grad():
        references = [[sums(model, row)[0] for row in one[:2]] for one in data]
    named = list(model.named_parameters())
    optim = torch.optim.AdamW([dict(params=[p for _, p in named if p.ndim > 1], weight_decay=0.01),
                               dict(params=[p for _, p in named if p.ndim <= 1], weight_decay=0.0)], lr=1.0)
    log, at = [], 0
    for step in range(STEPS):
        micro, count = [], 0
        while count < PER_STEP:
            batch = []
            while len(batch) < MICRO and count < PER_STEP:
                batch.append(at % len(data)); at += 1; count += 1
                if at % len(data) == 0: break
            micro.append(batch)
            if at % len(data) == 0: break
        optim.zero_grad(set_to_none=True)
        total, chosen, rejected, kls = 0.0, [], [], []
        for batch in micro:
            found = [tuple((*sums(model, row), ref) for row, ref in zip(data[i][:2], references[i])) + (data[i][2],) for i in batch]
            loss, c1, r1, kl = loss_of(kind, c, found)
            (loss / count).backward()
            total += loss.item(); chosen += c1; rejected += r1
            if kl is not None: kls += [kl.item()] * len(batch)
        norm = torch.nn.utils.clip_grad_norm_([p for _, p in named], CLIP).item()
        shape = 0.5 * (1 + math.cos(math.pi * (step - WARM) / max(1, STEPS - WARM)))
        rate = RATE * step / WARM if step < WARM else RATE * shape
        for g in optim.param_groups: g["lr"] = rate
        optim.step()
        mean = lambda v: sum(v) / len(v)
        entry = {"loss": total / count, "grad_norm": norm, "learning_rate": rate}
        if chosen: entry["rewards/chosen"] = mean(chosen)
        if rejected: entry["rewards/rejected"] = mean(rejected)
        if kls: entry["kl"] = mean(kls)
        log.append(entry)
    changes = {n: (p.detach() - start[n]).norm().item() for n, p in named}
    return dict(keys=c, log=log, changes=changes)


short = lambda v: {k: short(x) for k, x in v.items()} if isinstance(v, dict) else [short(x) for x in v] if isinstance(v, list) else float(f"{v:.8g}")
print(json.dumps({kind: short(run(kind, c)) for kind, c in KEYS.items()}, indent=1))
