#!/bin/sh
# Makes the models and golden figures in this folder with PyTorch float32 on the CPU (torch 2.13.0, transformers 5.17.0), a model of
# each architecture beside those in ../llama; golden.py is the reference folder's. From the project's root:
#   sh tests/golden/models/make.sh REFERENCE_FOLDER PYTHON [MODEL]
set -eu
reference=$1 python=$2 here=tests/golden/models
"$python" "$here/make_models.py" "$here"
for model in "$here"/${3:-*}/; do
  name=$(basename "$model")
  case $name in *-golden) continue ;; esac
  golden=$here/$name-golden
  rm -rf "$golden"
  "$python" "$reference/golden.py" tests/golden/llama/run.yaml --out "$golden" "--model_name_or_path=$here/$name"
  # The tokenizer is the start model's; of golden.json only the log is compared.
  rm "$golden"/model/*.json "$golden"/model/*.jinja
  "$python" -c "import json, sys; p = sys.argv[1]; d = json.load(open(p)); json.dump({'log': d['log'], 'pairs': d['pairs']}, open(p, 'w'))" \
    "$golden/golden.json"
done
