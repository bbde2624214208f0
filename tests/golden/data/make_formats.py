"""Writes the golden files of formats and shapes, by pyarrow 26 and TRL 1.13.

  python tests/golden/data/make_formats.py TRL_REPOSITORY     (a checkout of huggingface/trl, for examples/datasets)

  ultrafeedback.parquet   the columns of HuggingFaceH4/ultrafeedback_binarized, several row groups and pages
  CODEC.parquet           the same by other codecs, as one row group
  prompt-lists.parquet    the columns of TRL's conversational form
  numbers.parquet         a column `chosen` of another type
  formats.json            the rows of the first and of prompt-lists.parquet, as pyarrow reads them
  shapes.json             texts without a prompt, and what TRL makes of them
"""
import importlib.util, json, os, sys
import pyarrow as pa, pyarrow.parquet as pq
from trl.data_utils import extract_prompt

HERE = os.path.dirname(os.path.abspath(__file__))
path = os.path.join(sys.argv[1], "examples/datasets/hh-rlhf-helpful-base.py")
spec = importlib.util.spec_from_file_location("hh", path)
hh = importlib.util.module_from_spec(spec)
sys.modules["hh"] = hh
spec.loader.exec_module(hh)

ROWS = [json.loads(line) for line in open(os.path.join(HERE, "rows.jsonl"), encoding="utf-8")]
TRANSCRIPTS = [
    ("\n\nHuman: Is it late?\n\nAssistant: It is nine.", "\n\nHuman: Is it late?\n\nAssistant: Look at a clock."),
    ("\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Name a colour\n\nAssistant: Teal.",
     "\n\nHuman: Hi\n\nAssistant: Hello.\n\nHuman: Name a colour\n\nAssistant: Tan."),
    ("\n\nHuman: Same words?\n\nAssistant: It is so.", "\n\nHuman: Same words?\n\nAssistant: It is not."),
    ("\n\nHuman: a\n\nHuman: b\n\nAssistant: One\n\ntwo", "\n\nHuman: a\n\nHuman: b\n\nAssistant: Two\nlines "),
    ("\n\nHuman: Differ early\n\nAssistant: Yes.\n\nHuman: Go on\n\nAssistant: Done.",
     "\n\nHuman: Differ early\n\nAssistant: No.\n\nHuman: Why?\n\nAssistant: Because."),
    ("\n\nHuman: Say: Human: hi\n\nAssistant: Assistant: hi", "\n\nHuman: Say: Human: hi\n\nAssistant: no 🙂"),
]
TEXTS = [("The sky is blue.", "The sky is green."), ("Q: one? A: two", "Q: one? A: three"), ("ab", "abcd"), ("x", "y"),
         ("same", "same"), ("face 😀 a", "face 😃 b")]


def write(name, rows, **options):
    pq.write_table(pa.Table.from_pylist(rows), os.path.join(HERE, name), **options)


def main():
    plain = [r for r in ROWS if not isinstance(r.get("prompt"), list)]
    rows = [{"prompt": r["chosen"][0]["content"], "prompt_id": str(i), **r, "messages": r["chosen"], "score_chosen": 7.5, "turns": i}
            for i, r in enumerate(plain)]
    lists = [r for r in ROWS if isinstance(r.get("prompt"), list)]
    write("ultrafeedback.parquet", rows, row_group_size=10, data_page_size=256, write_batch_size=2)
    for codec in ("zstd", "gzip", "brotli", "lz4", "none"):
        write(f"{codec}.parquet", [{k: r[k] for k in ("prompt", "chosen", "rejected")} for r in rows[:8]], compression=codec)
    write("prompt-lists.parquet", lists)
    write("numbers.parquet", [{"prompt": "a", "chosen": 2**60, "rejected": "b"}])
    read = lambda name: pq.read_table(os.path.join(HERE, name)).to_pylist()
    keep = ("prompt", "chosen", "rejected")
    with open(os.path.join(HERE, "formats.json"), "w") as f:
        json.dump({name: [{k: r[k] for k in keep} for r in read(name)] for name in ("ultrafeedback.parquet", "prompt-lists.parquet")}, f, indent=0)
    pairs = lambda texts: [{"chosen": c, "rejected": r} for c, r in texts]
    with open(os.path.join(HERE, "shapes.json"), "w") as f:
        json.dump({"transcripts": [{"row": r, "trl": hh.extract_dialogue(r)} for r in pairs(TRANSCRIPTS)],
                   "texts": [{"row": r, "trl": extract_prompt(r)} for r in pairs(TEXTS)]}, f, indent=0)


if __name__ == "__main__":
    main()
