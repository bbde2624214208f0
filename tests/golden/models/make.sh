#!/bin/sh
# Makes the models and golden figures in this folder with PyTorch float32 on the CPU (torch 2.13.0, transformers 5.17.0), a model of
# each architecture beside those in ../llama; golden.py is the reference folder's. From the project's root, all or those named:
#   sh tests/golden/models/make.sh REFERENCE_FOLDER PYTHON [MODEL ...]
set -eu
reference=$1 python=$2 here=tests/golden/models
shift 2
"$python" "$here/make_models.py" "$here" "$@"
# By dimensions golden.py would take Cohere's norms of heads, [heads, head_dim], for matrices, and decay them; transformers' Trainer
# passes over norms by name.
sed -e 's/\[p for _, p in trained if p.ndim > 1\]/[p for n, p in trained if p.ndim > 1 and "_norm." not in n]/' \
  -e 's/\[p for _, p in trained if p.ndim <= 1\]/[p for n, p in trained if p.ndim <= 1 or "_norm." in n]/' \
  "$reference/golden.py" > "$here/golden.py"
trap 'rm "$here/golden.py"' EXIT
export PYTHONPATH="$reference"
[ $# -gt 0 ] || set -- $(ls "$here" | grep -v -e '-golden$' -e '\.')
for name in "$@"; do
  golden=$here/$name-golden
  rm -rf "$golden"
  "$python" "$here/golden.py" tests/golden/llama/run.yaml --out "$golden" "--model_name_or_path=$here/$name"
  # The tokenizer is the start model's.
  rm "$golden"/model/*.json "$golden"/model/*.jinja
  # Of golden.json only the log is compared (the pairs are those of ../llama), of the logits the last rows.
  "$python" - "$golden" <<'END'
import json, sys
from safetensors.torch import load_file, save_file
golden = sys.argv[1]
log = json.load(open(f"{golden}/golden.json"))["log"]
json.dump({"log": log}, open(f"{golden}/golden.json", "w"))
logits = load_file(f"{golden}/logits.safetensors")["logits"]
save_file({"logits": logits[-8:].contiguous()}, f"{golden}/logits.safetensors")
END
done
"$python" "$here/greedy.py" > "$here/greedy.json"
