"""What TRL's own trainers make of fixed responses: values, rewards, metrics and derivatives of their losses.

    python tests/golden/losses/trl_losses.py > tests/golden/losses/trl.json

It ran with TRL 1.13, PyTorch 2.13 (CPU, float64) and transformers 5.17. The trainers' `_compute_loss` or
`get_batch_loss_metrics` run as they are, on objects that have what they read and nothing else: no model is run, and logits are
random. A derivative by a label's log-probability follows from the gradient of the label's logit.
"""
import collections
import json
import types

import torch
import trl
from trl import DPOTrainer, KTOTrainer
from trl.experimental.cpo import CPOConfig, CPOTrainer
from trl.experimental.orpo import ORPOTrainer

torch.set_default_dtype(torch.float64)
VOCABULARY = 7
DPO = dict(beta=0.1, label_smoothing=0.0, discopop_tau=0.05, f_divergence_type="reverse_kl", f_alpha_divergence_coef=0.5,
           ld_alpha=None, use_weighting=False, loss_weights=None)
accelerator = types.SimpleNamespace(device=torch.device("cpu"), gather=lambda x: x, gather_for_metrics=lambda x: x)


def trainer(of, **fields):
    made = object.__new__(of)
    made.__dict__.update(accelerator=accelerator, aux_loss_enabled=False, _tp_size=1, _total_train_tokens=0, use_liger_kernel=False,
                         _metrics={"train": collections.defaultdict(list)}, **fields)
    return made


class Model:
    """Gives the logits that it is given."""
    training = True

    def __init__(self, logits): self.logits = logits
    def __call__(self, **_): return types.SimpleNamespace(logits=self.logits)


def response(labels, seed):
    """Random logits of a response after one token of a prompt, and its token ids; log-probabilities of about -1 a label."""
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(0, VOCABULARY, (labels + 1,), generator=g)
    logits = torch.randn(labels + 1, VOCABULARY, generator=g)
    logits[torch.arange(labels), ids[1:]] += 1.5
    return ids, logits


def padded(rows, fill=0):
    longest = max(len(row) for row in rows)
    return torch.stack([torch.cat([row, row.new_full((longest - len(row), *row.shape[1:]), fill)]) for row in rows])


# Labels of chosen and rejected, and by how much the reference's sums differ from the policy's.
PAIRS = [((7, 9), (0.9, -1.6)), ((12, 5), (-2.1, 0.7)), ((3, 3), (-0.4, -0.9)), ((20, 31), (3.2, 2.4)), ((1, 2), (0.2, 0.1))]


def logps_of(ids, logits):
    return logits[:-1].log_softmax(-1).gather(1, ids[1:, None])[:, 0]


def share(n, other, alpha):
    return torch.tensor([1.0 if alpha is None or i < other else alpha for i in range(n)])


def batch_of(pairs, ld_alpha=None):
    made = []
    for i, ((c, r), offsets) in pairs:
        both = [response(c, 10 * i), response(r, 10 * i + 1)]
        references = [(logps_of(*b) * share(n, o, ld_alpha)).sum() + d for b, n, o, d in zip(both, (c, r), (r, c), offsets)]
        made.append((both, references))
    return made


def derivatives(ids, gradient, logits, labels):
    """dL/d(log-probability) of each label."""
    out = []
    for l in range(labels):
        p = logits[l].softmax(-1)[ids[l + 1]]
        out.append((gradient[l, ids[l + 1]] / (1 - p)).item())
    return out


def describe(ids, logits, reference=None):
    logps = logps_of(ids, logits)
    p = logits[:-1].softmax(-1)
    return dict(logps=logps.tolist(), squares=(p * p).sum(-1).log().tolist(), ids=ids.tolist(),
                **({} if reference is None else dict(reference=reference.item())))


def dpo(loss_types, pairs, **changed):
    c = {**DPO, **changed}
    made = batch_of(pairs, c["ld_alpha"])
    order = [m[0][0] for m in made] + [m[0][1] for m in made]
    logits = padded([l for _, l in order]).clone().requires_grad_()
    ids = padded([i for i, _ in order])
    mask = padded([torch.tensor([0] + [1] * (len(i) - 1)) for i, _ in order])
    t = trainer(DPOTrainer, loss_types=loss_types, precompute_ref_logps=True, args=types.SimpleNamespace(discopop_tau=c["discopop_tau"]),
                model=types.SimpleNamespace(training=True), **{k: v for k, v in c.items() if k != "discopop_tau"})
    t.loss_weights = t.loss_weights or [1.0] * len(loss_types)
    inputs = dict(input_ids=ids, completion_mask=mask, attention_mask=torch.ones_like(ids),
                  ref_chosen_logps=torch.stack([m[1][0] for m in made]), ref_rejected_logps=torch.stack([m[1][1] for m in made]))
    loss = t._compute_loss(Model(logits), inputs, False)
    loss.backward()
    return finish(loss, {k: v[-1] for k, v in t._metrics["train"].items()}, made, order, logits)


def finish(loss, metrics, made, order, logits, judged=None):
    found = [derivatives(i, logits.grad[n], l, len(i) - 1) for n, (i, l) in enumerate(order)]
    n = len(made)
    keep = ("rewards/", "logps/", "nll_loss", "log_odds", "kl")
    return dict(
        pairs=[dict(chosen=describe(*m[0][0], m[1][0]), rejected=describe(*m[0][1], m[1][1]),
                    **({} if judged is None else dict(desirable=judged[i]))) for i, m in enumerate(made)],
        loss=loss.item(), metrics={k: v for k, v in metrics.items() if k.startswith(keep)},
        dChosen=found[:n], dRejected=found[n:] if len(found) > n else None)


def likelihood(of, pairs, mean, alpha_nll, **fields):
    """CPO's and ORPO's: `concatenated_forward` gives log-probabilities, here of the labels of a response; likelihoods are of chosen's."""
    made = batch_of(pairs)
    order = [m[0][0] for m in made] + [m[0][1] for m in made]
    logits = padded([l for _, l in order]).clone().requires_grad_()
    sums = torch.stack([logps_of(i, logits[n, : len(i)]).sum() for n, (i, _) in enumerate(order)])
    counts = torch.tensor([float(len(i) - 1) for i, _ in order])
    n = len(made)
    nll = -(sums[:n].sum() / counts[:n].sum()) if alpha_nll else torch.tensor(0.0)
    scores = sums / counts if mean else sums
    t = trainer(of, **fields)
    t.concatenated_forward = lambda *_: (scores[:n], scores[n:], logits[:n], logits[n:], nll)
    loss, metrics = t.get_batch_loss_metrics(None, None)
    loss.backward()
    return finish(loss, metrics, made, order, logits)


def cpo(loss_type, pairs, **changed):
    c = CPOConfig(loss_type=loss_type, output_dir="/tmp/none", use_cpu=True, bf16=False, report_to=[], **changed)
    mean = c.loss_type in ("ipo", "simpo")
    return likelihood(CPOTrainer, pairs, mean, c.cpo_alpha != 0, beta=c.beta, label_smoothing=c.label_smoothing, loss_type=c.loss_type,
                      cpo_alpha=c.cpo_alpha, simpo_gamma=c.simpo_gamma, alpha=c.alpha)


def kto(loss_type, pairs, judged, beta=0.1, desirable_weight=1.0, undesirable_weight=1.0):
    made = batch_of(pairs)
    order = [m[0][0] for m in made]
    logits = padded([l for _, l in order]).clone().requires_grad_()
    ids = padded([i for i, _ in order])
    mask = padded([torch.tensor([0] + [1] * (len(i) - 1)) for i, _ in order])
    other = [m[0][1] for m in made]
    t = trainer(KTOTrainer, loss_type=loss_type, precompute_ref_logps=True, calculate_KL=loss_type == "kto", beta=beta,
                desirable_weight=desirable_weight, undesirable_weight=undesirable_weight, model=types.SimpleNamespace(training=True))
    inputs = dict(input_ids=ids, attention_mask=torch.ones_like(ids), completion_mask=mask, label=torch.tensor(judged),
                  ref_logps=torch.stack([m[1][0] for m in made]), ref_KL_logps=torch.stack([m[1][1] for m in made]))
    if t.calculate_KL:
        other_ids = padded([i for i, _ in other])
        inputs.update(KL_input_ids=other_ids, KL_attention_mask=torch.ones_like(other_ids),
                      KL_completion_mask=padded([torch.tensor([0] + [1] * (len(i) - 1)) for i, _ in other]))
    other_logits = padded([l for _, l in other])
    calls = []

    class Both(Model):
        def __call__(self, **kwargs):
            calls.append(1)
            is_kl = t.calculate_KL and len(calls) == 1
            return types.SimpleNamespace(logits=other_logits if is_kl else logits)

    loss = t._compute_loss(Both(None), inputs, False)
    loss.backward()
    return finish(loss, {k: v[-1] for k, v in t._metrics["train"].items()}, made, order, logits, judged)


numbered = list(enumerate(PAIRS))
cases = []


def add(keys, found):
    cases.append(dict(keys=keys, **found))


# Of losses of a pair each pair is a batch of its own.
SINGLE = {name: {} for name in "sigmoid hinge ipo nca_pair bco_pair sppo_hard apo_zero apo_down discopop sigmoid_norm sft".split()}
SINGLE.update(robust=dict(label_smoothing=0.1), exo_pair=dict(label_smoothing=1e-3))
for name, changed in SINGLE.items():
    for pair in numbered[:4]:
        add(dict(loss_type=name, **changed), dpo([name], [pair], **changed))
for changed in (dict(beta=0.5, f_divergence_type="forward_kl"), dict(f_divergence_type="js_divergence"),
                dict(f_divergence_type="alpha_divergence", f_alpha_divergence_coef=0.3), dict(ld_alpha=0.4), dict(use_weighting=True)):
    # Which TRL has not in float64.
    torch.set_default_dtype(torch.float32 if "alpha_divergence" in changed.values() else torch.float64)
    for pair in numbered[1:4]:
        add(dict(loss_type="sigmoid", **changed), dpo(["sigmoid"], [pair], **changed))
torch.set_default_dtype(torch.float64)
mixed = dict(loss_weights=[0.8, 0.2, 1.0])
add(dict(loss_type=["sigmoid", "bco_pair", "sft"], **mixed), dpo(["sigmoid", "bco_pair", "sft"], [numbered[1]], **mixed))
for name in ("aot", "aot_unpaired"):
    add(dict(loss_type=name, label_smoothing=0.2), dpo([name], numbered, label_smoothing=0.2))
for pair in numbered[:4]:
    add(dict(loss_type="cpo"), cpo("sigmoid", [pair]))
    add(dict(loss_type="slic", cpo_alpha=0.5), cpo("hinge", [pair], cpo_alpha=0.5))
    add(dict(loss_type="simpo", beta=2, simpo_gamma=0.6), cpo("simpo", [pair], beta=2, simpo_gamma=0.6, cpo_alpha=0))
    add(dict(loss_type="simpo", beta=2, cpo_alpha=1, label_smoothing=0.1), cpo("simpo", [pair], beta=2, cpo_alpha=1, label_smoothing=0.1))
    add(dict(loss_type="alphapo", beta=2, alpha=0.25), cpo("alphapo", [pair], beta=2, alpha=0.25))
    add(dict(loss_type="orpo"), likelihood(ORPOTrainer, [pair], True, True, beta=0.1))
for judged in ([True, False, True, True, False], [False] * 5):
    add(dict(loss_type="kto", desirable_weight=1.5, undesirable_weight=0.7), kto("kto", numbered, judged, desirable_weight=1.5, undesirable_weight=0.7))
    add(dict(loss_type="apo_zero_unpaired", beta=0.3), kto("apo_zero_unpaired", numbered, judged, beta=0.3))


def rounded(value):
    if isinstance(value, float):
        return float(f"{value:.8g}")
    if isinstance(value, dict):
        return {k: rounded(v) for k, v in value.items()}
    return [rounded(v) for v in value] if isinstance(value, list) else value


def short(derivatives):
    """One number where all labels of a response have the same; floats differ in their last digits."""
    if derivatives is None:
        return None
    return [d[0] if max(d) - min(d) <= 1e-7 * max(map(abs, d)) + 1e-12 else d for d in derivatives]


responses, at = [], {}
for case in cases:
    for pair in case["pairs"]:
        for side in ("chosen", "rejected"):
            found = rounded(pair[side])
            reference = found.pop("reference")
            key = json.dumps(found)
            if key not in at:
                at[key] = len(responses)
                responses.append(found)
            pair[side] = [at[key], reference]
    case["dChosen"], case["dRejected"] = short(case["dChosen"]), short(case["dRejected"])
lines = ",\n".join(json.dumps(case) for case in rounded(cases))
print(f'{{"trl": "{trl.__version__}",\n"responses": {json.dumps(responses)},\n"cases": [\n{lines}\n]}}')
