"""Eight steps of PEFT's adapters (tests/golden/adapters) over a base in 4 bits: golden.py's runs (the reference folder's) over a model whose
linear layers but the head, and but rows of 62, are what bitsandbytes makes of them on the processor, in float32. From the project's root:
PYTHON tests/golden/quantized/qlora.py REFERENCE_FOLDER > tests/golden/quantized/qlora.json
(bitsandbytes 0.50.2, peft 0.21.0, torch 2.13.0, transformers 5.17.0)"""
import json
import shutil
import subprocess
import sys
import tempfile

from safetensors.torch import load_file, save_file
from step import WAYS, stands_for

MODEL = "tests/golden/llama/untied"
RUNS = {"lora": "fp4 double", "dora": "nf4"}
KEPT = ["loss", "grad_norm", "rewards/chosen", "rewards/rejected"]

found = {}
for name, way in RUNS.items():
    with tempfile.TemporaryDirectory() as folder:
        base = f"{folder}/base"
        shutil.copytree(MODEL, base)
        weights = load_file(f"{base}/model.safetensors")
        for key, value in weights.items():
            if key.endswith("_proj.weight") and value.shape[1] % 4 == 0:
                weights[key] = stands_for(value.float(), WAYS[way]).view(value.shape)
        save_file(weights, f"{base}/model.safetensors", {"format": "pt"})
        subprocess.run([sys.executable, f"{sys.argv[1]}/golden.py", "tests/golden/llama/run.yaml", "--out", f"{folder}/out",
                        "--use_peft=true", f"--model_name_or_path={base}", f"--adapter_name_or_path=tests/golden/adapters/{name}",
                        "--max_steps=8", "--weight_decay=0.0"], check=True, stdout=sys.stderr)
        log = json.load(open(f"{folder}/out/golden.json"))["log"]
        found[name] = {"way": way, "log": [{key: entry[key] for key in KEPT} for entry in log]}
print(json.dumps(found))
