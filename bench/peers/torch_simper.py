"""SimPER in PyTorch, batched as a common trainer does (TRL's DPOTrainer): chosen and rejected one under the other, padded to the longest sequence of the batch, logits at every position."""
import torch


def padded(sequences, device):
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


def mean_logps(model, ids, mask, labels):
    logits = model(input_ids=ids, attention_mask=mask, use_cache=False).logits[:, :-1]
    labels = labels[:, 1:]
    counted = labels != -100
    chosen = logits.gather(-1, labels.clamp(min=0).unsqueeze(-1)).squeeze(-1)
    # A sequence at a time, as TRL does, to hold less at once.
    logps = chosen - torch.stack([row.logsumexp(-1) for row in logits])
    return (logps * counted).sum(-1) / counted.sum(-1)


def loss_of(model, batch, device="cpu"):
    """The loss of a list of pairs."""
    sequences = [pair["chosen"] for pair in batch] + [pair["rejected"] for pair in batch]
    chosen, rejected = mean_logps(model, *padded(sequences, device)).chunk(2)
    return (rejected.exp() - chosen.exp()).mean()
