"""Unpaired rows and KL completions as TRL 1.13 makes them: writes pairs.json and judged.json beside itself.

    python tests/golden/unpaired/make.py
"""

import json
import re
from pathlib import Path
from types import SimpleNamespace

from datasets import Dataset
from transformers import AutoTokenizer
from trl import unpair_preference_dataset
from trl.trainer import kto_trainer
from trl.trainer.kto_trainer import DataCollatorForUnpairedPreference, KTOTrainer

HERE = Path(__file__).parent
tokenizer = AutoTokenizer.from_pretrained(HERE.parent / "data" / "tokenizer")

JUDGED = [
    {"prompt": "What is the tallest tree?", "completion": " The coast redwood.", "label": True},
    {"prompt": "Is it late?", "completion": " Look at a clock, it hangs there on the wall behind you.", "label": False},
    {"prompt": "Hot?", "completion": " No.", "label": True},
    {"prompt": "What is the capital of Italy?", "completion": " Rome; the Tiber.", "label": True},
    {"prompt": "How many legs has a spider?", "completion": " Six.", "label": False},
]
CHATS = [
    {
        "prompt": [{"role": "user", "content": row["prompt"]}],
        "completion": [{"role": "assistant", "content": row["completion"].strip()}],
        "label": row["label"],
    }
    for row in JUDGED
]
# More rows than TRL parts at a time.
PAIRS = [{"prompt": f"{i}?", "chosen": f" {i} is good", "rejected": f" {i} is bad"} for i in range(1003)]


warnings = []
kto_trainer.logger = SimpleNamespace(warning=warnings.append)


def prepared(rows: list, batch: int, max_length: int) -> list:
    trainer = SimpleNamespace(_tokenizer=tokenizer, calculate_KL=True, desirable_weight=1.0, undesirable_weight=1.0)
    args = SimpleNamespace(dataset_num_proc=None, max_length=max_length, per_device_train_batch_size=batch)
    dataset = KTOTrainer._prepare_dataset(trainer, Dataset.from_list(rows), tokenizer, args, "train")
    collator = DataCollatorForUnpairedPreference(pad_token_id=0, max_length=max_length)
    found = []
    for row in dataset:
        batch_of_one = collator([row])
        found.append({
            "ids": batch_of_one["input_ids"][0].tolist(),
            "labels": int(batch_of_one["completion_mask"].sum()),
            "kl_ids": batch_of_one["KL_input_ids"][0].tolist(),
            "kl_labels": int(batch_of_one["KL_completion_mask"].sum()),
            "label": row["label"],
        })
    return found


def balance(desirable: int, undesirable: int, weights: tuple) -> dict:
    warnings.clear()
    args = SimpleNamespace(dataset_num_proc=None, max_length=None, per_device_train_batch_size=2)
    trainer = SimpleNamespace(
        _tokenizer=tokenizer, calculate_KL=False, desirable_weight=weights[0], undesirable_weight=weights[1]
    )
    rows = [{"prompt": "a", "completion": " b", "label": i < desirable} for i in range(desirable + undesirable)]
    KTOTrainer._prepare_dataset(trainer, Dataset.from_list(rows), tokenizer, args, "train")
    ranges = [float(number) for text in warnings for number in re.findall(r"[\[ ]([\d.]+)[\],]", text)]
    return {"judged": [desirable, undesirable], "weights": weights, "ranges": ranges}


(HERE / "judged.json").write_text(json.dumps({
    "sets": [
        {"rows": rows, "batch": batch, "max_length": length, "examples": prepared(rows, batch, length)}
        # Of the texts only what is put after another prompt is longer than 44.
        for rows, batch, length in ((JUDGED, 2, 44), (JUDGED, 3, 44), (CHATS, 2, 64))
    ],
    "balances": [
        balance(*counts, weights)
        for counts in ((3, 2), (2, 3), (1, 9), (5, 5), (7, 0))
        for weights in ((1.0, 1.0), (0.7, 1.0), (1.0, 3.0))
    ],
}, ensure_ascii=False) + "\n")
unpaired = unpair_preference_dataset(Dataset.from_list(PAIRS))
(HERE / "pairs.json").write_text(json.dumps({
    "rows": len(PAIRS),
    # Of each example the number of its pair, from 1, negative where it is the rejected response's.
    "order": [(int(row["prompt"][:-1]) + 1) * (1 if row["label"] else -1) for row in unpaired],
}, separators=(",", ":")) + "\n")
