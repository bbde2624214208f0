"""Adapters made by PEFT on the models of tests/golden, and what PEFT and PyTorch make of them (peft 0.21.0, torch 2.13.0 on the CPU,
transformers 5.17.0). A folder NAME has the start as PEFT saves it; log.json, the steps of golden.py's run (the reference folder's) from it;
final.safetensors, the adapters after that run (neither for bfloat16, which is merged alone); logits.safetensors, those of the first chosen row's last tokens before it; and
merged.safetensors, two matrices after merge_and_unload(). From the project's root:

    python tests/golden/adapters/make.py REFERENCE_FOLDER [NAME ...]
"""
import json, os, shutil, subprocess, sys, tempfile
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

HERE = "tests/golden/adapters"
LLAMA = "tests/golden/llama/"
MODELS = "tests/golden/models/"
RUNS = {
    "lora": (LLAMA + "untied", dict(target_modules=["q_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"],
                                    modules_to_save=["lm_head"])),
    "bfloat16": (LLAMA + "tied-llama3-bf16-sharded", dict(target_modules="all-linear")),
    "dora": (LLAMA + "untied", dict(target_modules=["q_proj", "v_proj", "o_proj", "down_proj"], use_dora=True)),
    "ranks": (LLAMA + "untied", dict(target_modules=["o_proj", "up_proj", "down_proj"], rank_pattern={"down_proj": 4, "0.self_attn.o_proj": 2},
                                     alpha_pattern={"down_proj": 12})),
    "gpt_neox": (MODELS + "gpt_neox", dict(target_modules=["query_key_value", "dense"], use_rslora=True)),
    "phi3": (MODELS + "phi3", dict(target_modules=r".*(qkv|gate_up)_proj")),
}


def make(reference, name):
    model_path, options = RUNS[name]
    out = f"{HERE}/{name}"
    shutil.rmtree(out, ignore_errors=True)
    torch.manual_seed(7)
    model = AutoModelForCausalLM.from_pretrained(model_path)
    model = get_peft_model(model, LoraConfig(r=8, lora_alpha=16, task_type="CAUSAL_LM", **options))
    with torch.no_grad():  # away from 0, so that the first factors have gradients
        for key, weight in model.named_parameters():
            if "lora_B" in key: weight.normal_(0, 0.1)
            elif "magnitude" in key: weight.mul_(1 + 0.1 * torch.randn_like(weight))
    model.save_pretrained(out)
    os.remove(f"{out}/README.md")
    with tempfile.TemporaryDirectory() as folder:
        subprocess.run([sys.executable, f"{reference}/golden.py", f"{LLAMA}run.yaml", "--out", folder, "--use_peft=true",
                        f"--model_name_or_path={model_path}", f"--adapter_name_or_path={out}", "--max_steps=8",
                        "--weight_decay=0.0" if options.get("use_dora") else "--weight_decay=0.01"], check=True)
        if name != "bfloat16":
            shutil.copy(f"{folder}/model/adapter_model.safetensors", f"{out}/final.safetensors")
            json.dump(json.load(open(f"{folder}/golden.json"))["log"], open(f"{out}/log.json", "w"))
        logits = load_file(f"{folder}/logits.safetensors")["logits"]
        save_file({"logits": logits[-4:].contiguous()}, f"{out}/logits.safetensors")
    dtype = json.load(open(f"{model_path}/config.json")).get("dtype", "float32")
    base = AutoModelForCausalLM.from_pretrained(model_path, dtype=getattr(torch, dtype))
    merged = PeftModel.from_pretrained(base, out).merge_and_unload().state_dict()
    starts = load_file(f"{out}/adapter_model.safetensors")
    names = sorted(k.removeprefix("base_model.model.").replace("lora_A", "lora").replace(".lora", "") for k in starts if ".layers.0." in k and "lora_A" in k)
    save_file({k: merged[k].contiguous() for k in (names[0], names[-1])}, f"{out}/merged.safetensors")
    for file in ("adapter_config.json",):
        config = json.load(open(f"{out}/{file}"))
        json.dump(config, open(f"{out}/{file}", "w"), indent=1, sort_keys=True)


for name in sys.argv[2:] or RUNS:
    make(sys.argv[1], name)
