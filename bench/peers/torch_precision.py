"""What precisions of products make of a run, beside float32: PyTorch's own bfloat16 autocast, `high` and `medium` as kernels/gemm_matrix.ts has them, emulated, and the steps that
bench/precision.ts has written to the folder.

    python torch_precision.py MODEL_FOLDER FOLDER [STEPS]

A pair a step, STEPS of those that there are; losses that an earlier run left in the folder are not made again. Losses of all steps are compared with float32's, the first step's gradient with float64's: the norm of the difference, of the whole and a layer, and the derivative along
four random directions with central differences of float64 losses. Prints Markdown.
"""
import json
import os
import sys

import torch
from safetensors.torch import load_file
from transformers import AutoConfig, AutoModelForCausalLM

from torch_simper import loss_of

torch.set_num_threads(int(os.environ.get("OMP_NUM_THREADS", 2)))
folder, out, *steps = sys.argv[1:]
with open(os.path.join(out, "task.json")) as text:
    task = json.load(text)
batches = task["batches"][: int(steps[0]) if steps else None]


def scaled(x, dim):
    """Lines of an operand times the power of two that brings the largest magnitude to 2^14 .. 2^15, and those powers."""
    largest = x.abs().amax(dim, keepdim=True)
    exponent = torch.where(largest > 0, 15 - torch.frexp(largest).exponent, 0)
    return torch.ldexp(x, exponent), exponent


def product(a, b, precision):
    """a[m, k] b[k, n] by float16 parts, with float32 sums."""
    (a, down), (b, across) = scaled(a, 1), scaled(b, 0)
    high_a, high_b = a.half().float(), b.half().float()
    sums = high_a @ high_b
    if precision == "high":
        sums = (a - high_a).half().float() @ high_b + high_a @ (b - high_b).half().float() + sums
    return torch.ldexp(sums, -(down + across))


class Linear(torch.autograd.Function):
    precision = "high"

    @staticmethod
    def forward(ctx, x, weight):
        ctx.save_for_backward(x, weight)
        return product(x.reshape(-1, x.shape[-1]), weight.T, Linear.precision).reshape(*x.shape[:-1], -1)

    @staticmethod
    def backward(ctx, dy):
        x, weight = ctx.saved_tensors
        rows = dy.reshape(-1, dy.shape[-1])
        dx = product(rows, weight, Linear.precision).reshape(x.shape)
        return dx, product(rows.T, x.reshape(-1, x.shape[-1]), Linear.precision)


usual_linear = torch.nn.functional.linear
pad_token = AutoConfig.from_pretrained(folder).pad_token_id


def emulated(x, weight, bias=None):
    assert bias is None
    return Linear.apply(x, weight)


def opened(dtype=torch.float32):
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    model.train()
    if dtype == torch.float64:
        # Theirs rounds to float32, whatever it is given.
        for norm in (module for module in model.modules() if type(module).__name__.endswith("RMSNorm")):
            norm.forward = lambda x, norm=norm: norm.weight * x * (x.square().mean(-1, keepdim=True) + norm.variance_epsilon).rsqrt()
    return model


def gradients_of(model):
    return {name: parameter.grad.clone() for name, parameter in model.named_parameters()}


def computed(name):
    """A model, whose linear layers compute as that from now on, and what its forward pass stands in."""
    emulates = name in ("high", "medium")
    if emulates:
        Linear.precision = name
    torch.nn.functional.linear = emulated if emulates else usual_linear
    return opened(), lambda: torch.autocast("cpu", dtype=torch.bfloat16, enabled=name == "bfloat16")


def first_gradient(name):
    model, cast = computed(name)
    with cast():
        loss = loss_of(model, batches[0])
    loss.backward()
    return gradients_of(model)


def run(name):
    """Losses of all steps."""
    file = os.path.join(out, f"torch-{name}.json")
    if os.path.exists(file):
        with open(file) as text:
            losses = json.load(text)
        if len(losses) >= len(batches):
            return losses
    model, cast = computed(name)
    optimizer = torch.optim.AdamW(
        model.parameters(), lr=task["learning_rate"], betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0
    )
    losses = []
    for batch in batches:
        optimizer.zero_grad(set_to_none=True)
        with cast():
            loss = loss_of(model, batch)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), task["max_grad_norm"])
        optimizer.step()
        losses.append(loss.item())
        with open(file, "w") as text:
            json.dump(losses, text)
        print(f"{name} {len(losses)} {losses[-1]}", file=sys.stderr)
    return losses


DIRECTIONS = 4
STEP = 1e-5


def direction(seed, gradients):
    """A random one, as large where the gradient is large: else the largest matrices alone are looked at."""
    torch.manual_seed(seed)
    for name, gradient in gradients.items():
        part = gradient.abs() * torch.randn(gradient.shape)
        if name == "model.embed_tokens.weight" and pad_token is not None:
            # torch.nn.Embedding leaves this row out of its gradient, and so do we; differences would not.
            part[pad_token] = 0
        yield name, part


def exact():
    """The first step's gradient in float64, and the derivative along each direction by differences."""
    model = opened(torch.float64)
    loss_of(model, batches[0]).backward()
    gradients = gradients_of(model)
    model.zero_grad(set_to_none=True)
    slopes = []
    for seed in range(DIRECTIONS):
        values = []
        with torch.no_grad():
            for sign in (1, -2):
                for name, part in direction(seed, gradients):
                    model.get_parameter(name).add_(part, alpha=sign * STEP)
                values.append(loss_of(model, batches[0]).item())
            for name, part in direction(seed, gradients):
                model.get_parameter(name).add_(part, alpha=STEP)
        slopes.append((values[0] - values[1]) / (2 * STEP))
    return gradients, slopes


def norm(tensors):
    return sum(tensor.double().square().sum().item() for tensor in tensors) ** 0.5


def layer_of(name):
    words = name.split(".")
    return ".".join(words[:3]) if words[1] == "layers" else name


def row(name, gradients):
    of_layers = {}
    for layer in {layer_of(name) for name in truth}:
        names = [name for name in truth if layer_of(name) == layer]
        of_layers[layer] = norm(gradients[n].double() - truth[n] for n in names) / norm(truth[n] for n in names)
    worst = max(of_layers, key=of_layers.get)
    along = [
        sum((gradients[n].double() * part).sum().item() for n, part in direction(seed, truth))
        for seed in range(DIRECTIONS)
    ]
    scale = (sum(slope**2 for slope in slopes) / len(slopes)) ** 0.5
    off = max(abs(a - s) for a, s in zip(along, slopes)) / scale
    whole = norm(gradients[n].double() - g for n, g in truth.items()) / norm(truth.values())
    print(f"| {name} | {whole:.1e} | {of_layers[worst]:.1e} ({worst}) | {off:.1e} |", flush=True)


PRECISIONS = ("float32", "bfloat16", "medium", "high")
truth, slopes = exact()
print("| gradient of the first step | norm of the difference | largest of a layer's | along directions |\n| --- | --- | --- | --- |")
row("PyTorch, float64: what the differences resolve", truth)
for name in PRECISIONS:
    row(f"PyTorch, {name}" + (", emulated" if name in ("high", "medium") else ""), first_gradient(name))
for name in ("highest", "high", "medium"):
    file = os.path.join(out, f"{name}.safetensors")
    if os.path.exists(file):
        row(f"ours, {name}", load_file(file))

losses = {name: run(name) for name in PRECISIONS}
reference = losses["float32"]
unit = max(map(abs, reference))
print(f"\nLosses from {min(reference):.4f} to {max(reference):.4f}; differences in units of the largest.\n")
print("| losses | steps | beside | largest difference | mean |\n| --- | --- | --- | --- | --- |")


def differ(name, found, beside, other):
    differences = [abs(a - b) / unit for a, b in zip(found, other)]
    print(f"| {name} | {len(found)} | {beside} | {max(differences):.1e} | {sum(differences) / len(differences):.1e} |")


for name in ("bfloat16", "high", "medium"):
    differ(f"PyTorch, {name}" + ("" if name == "bfloat16" else ", emulated"), losses[name], "PyTorch float32", reference)
for name in ("highest", "high", "medium"):
    file = os.path.join(out, f"{name}.json")
    if not os.path.exists(file):
        continue
    with open(file) as text:
        found = [step["loss"] for step in json.load(text)["steps"]]
    differ(f"ours, {name}", found, "PyTorch float32", reference)
    if name in losses:
        differ(f"ours, {name}", found, "emulated", losses[name])
