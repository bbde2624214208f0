"""Writes small sets with the columns and file names of the paper's, and PyTorch's figures of its four setups on them.

  python tests/golden/setups/make.py REFERENCE_FOLDER RUN_SIMPER_PY WORK_FOLDER

from the project's root, by golden.py of the reference folder and the template in scripts/run_simper.py of
tengxiao1/SimPER (torch 2.13.0, transformers 5.17.0, datasets 5.0.1). WORK_FOLDER gets golden.py's run files, rows and
folders, for compare.py. The pairs are made up here.

  SET/data/SPLIT-00000-of-00001.parquet   HuggingFaceH4/ultrafeedback_binarized and princeton-nlp's two sets, with the
                                          columns of the published ones, as `datasets` writes them (snappy)
  SETUP.json                              the log of three optimizer steps of four pairs, in the order of the file, with
                                          the published keys and values besides, from the models of tests/golden/llama
"""
import ast, json, os, subprocess, sys
import datasets, pyarrow.parquet as parquet, yaml

HERE = os.path.dirname(os.path.abspath(__file__))
MODELS = os.path.join(os.path.dirname(HERE), "llama")
# The loopback Hub serves these models under the published names: tests/config/paper_setups_test.ts has the same table.
SETUPS = {
    "mistral-7b-base": ("sliding-window", "ultrafeedback_binarized"),
    "mistral-7b-instruct": ("sliding-window", "mistral-instruct-ultrafeedback"),
    "llama-3-8b-base": ("untied", "ultrafeedback_binarized"),
    "llama-3-8b-instruct": ("tied-llama3-bf16-sharded", "llama3-ultrafeedback"),
}
STEPS, ACCUMULATION = 3, 2
# In an order that keeps the mean margin of a step away from zero, where it would be mostly rounding.
PAIRS = [
    ("How many legs has a spider?", "A spider has eight legs, two more than an insect.", "Six, I think."),
    ("Why is the sky blue?", "Air scatters blue light more than red, so blue reaches us from everywhere.",
     "Because it is not green."),
    ("Give me a tip for better sleep.", "Go to bed at the same hour each day, in a dark and quiet room.",
     "Sleep better.\n\nThen you will sleep better."),
    ("Which planet is the largest?", "Jupiter is the largest planet of the solar system.", "The sun."),
    ("What is 12 times 12?", "12 times 12 is 144.", "It is about 150, or some such number; who needs to know?"),
    ("Name three primary colours.", "Red, yellow and blue.", "Green, orange and purple 🎨."),
    ("Write a function that adds two numbers.", "def add(a, b):\n    return a + b\n", "add = None"),
    ("Say hello in Japanese.", "こんにちは (konnichiwa).", "Hello in Japanese."),
    ("Translate 'good morning' into French.", "Good morning in French is \"bonjour\".", "No."),
    # Longer than each max_length: cut to max_prompt_length tokens from its end.
    ("Sum this up in one line: " + " ".join(f"On day {i} the ship sailed {7 * i % 23 + 1} miles."
                                            for i in range(1, 64)),
     "A ship sailed some miles on each of sixty-three days; the log gives the distance of every one." * 3,
     "A ship."),
    ("Is 91 a prime number?", "No: 91 is 7 times 13.", "Yes, 91 is prime."),
    ("  What boils at 100 degrees?  ", "Water does, at sea level.\n", ""),
    # Held out.
    ("How many days has a leap year?", "A leap year has 366 days.", "365."),
    ("What do bees make?", "Bees make honey and wax.", "Bees make noise, and that is all I wish to say about them."),
    ("Spell 'queue'.", "Q-u-e-u-e.", "Q."),
]
HELD_OUT = 3


def conversations(pair):
    user = {"content": pair[0], "role": "user"}
    return [[user, {"content": answer, "role": "assistant"}] for answer in pair[1:]]


def binarized(i, pair):
    chosen, rejected = conversations(pair)
    return {"prompt": pair[0], "prompt_id": f"{i:064x}", "chosen": chosen, "rejected": rejected, "messages": chosen,
            "score_chosen": 8.5, "score_rejected": 4.0}


def on_policy(i, pair):
    chosen, rejected = conversations(pair)
    return {"prompt_id": f"{i:064x}", "prompt": pair[0], "all_generated_responses": [*pair[1:], "I do not know."],
            "all_rm_scores": [0.17, 0.09, 0.1], "chosen": chosen, "rejected": rejected}


SETS = {
    "ultrafeedback_binarized": (binarized, ("train_prefs", "test_prefs")),
    "mistral-instruct-ultrafeedback": (on_policy, ("train", "test")),
    "llama3-ultrafeedback": (on_policy, ("train", "test")),
}


def write_sets():
    for name, (row, splits) in SETS.items():
        os.makedirs(os.path.join(HERE, name, "data"), exist_ok=True)
        # The two sets of one form have different pairs first.
        pairs = PAIRS[:-HELD_OUT][::-1] if name.startswith("llama3") else PAIRS[:-HELD_OUT]
        for split, part in zip(splits, (pairs, PAIRS[-HELD_OUT:])):
            rows = datasets.Dataset.from_list([row(i, pair) for i, pair in enumerate(part)])
            rows.to_parquet(os.path.join(HERE, name, "data", f"{split}-00000-of-00001.parquet"))


def write_golden(reference, template, work):
    os.makedirs(work, exist_ok=True)
    for setup, (model, name) in SETUPS.items():
        config = yaml.safe_load(open(f"configs/{setup}-simper.yaml"))
        rows, run, out = (os.path.join(work, f"{setup}{end}") for end in (".jsonl", ".yaml", ""))
        table = parquet.read_table(os.path.join(HERE, name, "data", f"{SETS[name][1][0]}-00000-of-00001.parquet"))
        open(rows, "w").writelines(json.dumps(row) + "\n" for row in table.to_pylist())
        if "mistral" in config["model_name_or_path"].lower():
            config["chat_template"] = template
        config.update(model_name_or_path=os.path.join(MODELS, model), dataset_mixer={rows: 1.0}, max_steps=STEPS,
                      gradient_accumulation_steps=ACCUMULATION)
        yaml.safe_dump(config, open(run, "w"))
        subprocess.run([sys.executable, os.path.join(reference, "golden.py"), run, "--out", out], check=True)
        log = json.load(open(os.path.join(out, "golden.json")))["log"]
        with open(os.path.join(HERE, f"{setup}.json"), "w") as f:
            f.write("[\n" + ",\n".join(" " + json.dumps(entry) for entry in log) + "\n]\n")


if __name__ == "__main__":
    source = ast.parse(open(sys.argv[2]).read())
    template = next(ast.literal_eval(node.value) for node in source.body
                    if isinstance(node, ast.Assign) and node.targets[0].id == "MISTRAL_CHAT_TEMPLATE")
    write_sets()
    write_golden(sys.argv[1], template, sys.argv[3])
