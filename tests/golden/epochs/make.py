"""Steps and epochs of transformers' Trainer over a grid of rows, batches, accumulation and epochs: `python make.py > epochs.json` (transformers 5.17)."""
import itertools, json, logging, tempfile
import torch
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments, logging as hf_logging

hf_logging.set_verbosity_error()


class Dummy(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.w = torch.nn.Parameter(torch.ones(1))

    def forward(self, x):
        return {"loss": (self.w * x).mean()}


class Epochs(TrainerCallback):
    def __init__(self):
        self.epochs = []

    def on_step_end(self, args, state, control, **kwargs):
        self.epochs.append(state.epoch)


def run(rows, batch, accumulation, epochs, max_steps):
    args = TrainingArguments(
        output_dir=tempfile.gettempdir(), per_device_train_batch_size=batch, gradient_accumulation_steps=accumulation,
        num_train_epochs=epochs, max_steps=max_steps, save_strategy="no", report_to=[], use_cpu=True, disable_tqdm=True,
        logging_strategy="no")
    seen = Epochs()
    trainer = Trainer(Dummy(), args, train_dataset=[{"x": torch.ones(1)}] * rows, callbacks=[seen])
    trainer.remove_callback(PrinterCallback)
    trainer.train()
    state = trainer.state
    assert state.epoch == seen.epochs[-1]
    return [rows, batch, accumulation, epochs, max_steps, state.num_train_epochs, seen.epochs]


logging.disable(logging.CRITICAL)
grid = [*itertools.product([1, 3, 7, 8], [1, 2, 4], [1, 2, 3], [0.3, 1, 1.5, 2.3], [-1]),
        *itertools.product([3, 7, 23], [2, 4], [1, 2, 3], [1], [1, 5])]
# `rows, batch, accumulation, epochs, max_steps, num_train_epochs, [epoch after each step]` a line.
print("[\n" + ",\n".join(json.dumps(run(*case)) for case in grid) + "\n]")
