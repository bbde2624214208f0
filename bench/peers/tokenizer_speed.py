"""Python's tokenizers on texts that come as a JSON list on the standard input; see bench/tokenize.ts.

  python bench/peers/tokenizer_speed.py MODEL_FOLDER
"""
import json, sys, time
from tokenizers import Tokenizer

texts = json.load(sys.stdin)
tokenizer = Tokenizer.from_file(f"{sys.argv[1]}/tokenizer.json")


def show(what, run):
    start = time.perf_counter()
    tokens = run()
    seconds = time.perf_counter() - start
    print(f"{what:44} {tokens} tokens  {seconds:.2f} s  {round(tokens / seconds):,} tokens/s", flush=True)


for what in ("first time", "again"):
    show(f"Python tokenizers, one by one, {what}",
         lambda: sum(len(tokenizer.encode(text, add_special_tokens=False).ids) for text in texts))
show("Python tokenizers, encode_batch",
     lambda: sum(len(e.ids) for e in tokenizer.encode_batch(texts, add_special_tokens=False)))
