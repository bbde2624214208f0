#!/bin/sh
# Makes the models and golden figures in this folder with PyTorch float32 on the CPU, by the programs of the reference
# folder (make_model.py, golden.py; torch 2.13.0, transformers 5.17.0). From the project's root:
#   sh tests/golden/llama/make.sh REFERENCE_FOLDER PYTHON
set -eu
reference=$1 python=$2 here=tests/golden/llama
make() {
  name=$1; shift
  rm -rf "$here/$name" "$here/$name-golden"
  "$python" "$reference/make_model.py" --arch llama --out "$here/$name" --hidden 48 --layers 2 --heads 3 --kv-heads 1 \
    --inter 62 --vocab 303 "$@"
  # The token of every turn's end as padding, as SmolLM2 has it: PyTorch does not train its embedding.
  [ "$name" != padding ] || sed -i 's/"pad_token_id": [0-9]*/"pad_token_id": 2/' "$here/$name/config.json"
  "$python" "$reference/golden.py" "$here/run.yaml" --out "$here/$name-golden" "--model_name_or_path=$here/$name"
  # The tokenizer is the start model's; of golden.json only the log is compared.
  rm "$here/$name-golden"/model/*.json "$here/$name-golden"/model/*.jinja
  "$python" -c "import json, sys; p = sys.argv[1]; d = json.load(open(p)); json.dump({'log': d['log'], 'pairs': d['pairs']}, open(p, 'w'))" \
    "$here/$name-golden/golden.json"
}
make untied --seed 11
make tied-llama3-bf16-sharded --seed 12 --tied --llama3-rope --dtype bfloat16 --shard 40KB
make sliding-window --seed 13 --arch mistral --window 20
make padding --seed 14 --tied
