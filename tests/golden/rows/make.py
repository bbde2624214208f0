"""Files of every form that rows are read from, and in rows.json the rows that `datasets` makes of them.

Made with datasets 5.0.1, pandas 3.1.1 and pyarrow 26.0.1: python make.py
Times and decimals stand in rows.json as Python prints them, and integers beyond float64 as {"int": "..."}, floats without a fraction as {"float": "..."}.
"""
import datetime, decimal, gzip, json, os, shutil, tempfile
import datasets, pyarrow as pa, pyarrow.parquet as pq

datasets.disable_progress_bars()
here = os.path.dirname(os.path.abspath(__file__))
at = lambda name: os.path.join(here, name)
cache = tempfile.mkdtemp()
rows = {}

def plain(value):
    if isinstance(value, dict): return {k: plain(v) for k, v in value.items()}
    if isinstance(value, list): return [plain(v) for v in value]
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**53: return {"int": str(value)}
    if isinstance(value, float) and value in (float("inf"), -float("inf")): return {"float": str(value)}
    if isinstance(value, float) and value.is_integer(): return {"float": str(value)}
    if value is None or isinstance(value, (bool, int, float, str)): return value
    return str(value)

def load(name, kind, **options):
    data = datasets.load_dataset(kind, data_files=at(name), split="train", cache_dir=tempfile.mkdtemp(dir=cache), **options)
    rows[name] = plain(data.to_list())

def text(name, content, kind="csv", **options):
    data = content if isinstance(content, bytes) else content.encode()
    with open(at(name), "wb") as file: file.write(gzip.compress(data, mtime=0) if name.endswith(".gz") else data)
    load(name, kind, **options)

text("quotes.csv", 'prompt,chosen,rejected\n5" pipe,"say ""hi"", then\ngo","a,b"\n\n   \nx"y"z,"tab\there", lead\n"""q""",""" ""","1"\n"backslash \\""",ok,no\n')
text("crlf.csv", b'\xef\xbb\xbfprompt,chosen,rejected\r\n"two\r\nlines",x,y\r\n\r\np,q,r\r\n')
text("cr.csv", "prompt,chosen,rejected\rp,x,y\rq,z,w\r")
text("missing.csv", 'prompt,chosen,rejected\nNA,"NA",text\n,"",null\nN/A,None,nan\nNa,none,#N/A\nshort\n')
text("types.csv", ",int,float,bool,gap,hex,zero,text,under,flag,na\n0, 1,1.5,True,1,0x10,007,x,1_000,true,\n1,2 ,1e5,False,,3,08,7,4,,NA\n2,-3,-inf,true,3,4,1,True,5,FALSE,\n")
text("pairs.tsv", 'prompt\tchosen\trejected\n1, 2\t"a\tb"\tc\n', sep="\t")
text("pairs.csv.gz", "prompt,chosen,rejected\nq\u2028r,é🙂,n\n")
lines = "".join(json.dumps(row) + "\n" for row in [{"prompt": "p\u2028", "chosen": "a", "rejected": "b"}, {"prompt": "q", "chosen": "", "rejected": "d"}])
for name in ["lines.ndjson", "lines.jsonlines", "lines.txt", "lines", "lines.json"]: text(name, lines, "json")
text("list.jsonl", json.dumps([{"prompt": "p", "chosen": "a", "rejected": "b"}]), "json")

message = pa.struct([("role", pa.string()), ("content", pa.large_string()), ("n", pa.int64()), ("u", pa.uint64()),
    ("t", pa.timestamp("us")), ("utc", pa.timestamp("ms", "UTC")), ("ns", pa.timestamp("ns")), ("day", pa.date32()),
    ("time", pa.time64("us")), ("price", pa.decimal128(10, 2)), ("f", pa.float64()), ("b", pa.bool_()), ("none", pa.null()),
    ("meta", pa.struct([("tags", pa.list_(pa.string())), ("score", pa.float32())]))])
when = datetime.datetime(2024, 1, 2, 3, 4, 5, 600000)
full = {"role": "user", "content": "Hi", "n": 1, "u": 2**63, "t": when, "utc": when, "ns": datetime.datetime(1969, 12, 31, 23, 59, 59),
    "day": when.date(), "time": when.time(), "price": decimal.Decimal("-1.50"), "f": 0.5, "b": True, "none": None,
    "meta": {"tags": ["x", None], "score": 1.5}}
sparse = {"role": "assistant", "content": "Yes", "n": -2**60, "f": 2.0, "price": decimal.Decimal("0.03"), "meta": {"tags": []}}
table = pa.table({
    "prompt": pa.array(["a", "b", "a"]).dictionary_encode(),
    "chosen": pa.array([[full, sparse], [], None], pa.list_(message)),
    "rejected": pa.array([[sparse], None, [full]], pa.large_list(message)),
    "label": pa.array([1, None, 3], pa.int8()),
})
pq.write_table(table, at("nested.parquet"), compression="none")
load("nested.parquet", "parquet")
data = datasets.load_dataset("parquet", data_files=at("nested.parquet"), split="train", cache_dir=tempfile.mkdtemp(dir=cache))
for name in ["saved", "splits"]: shutil.rmtree(at(name), ignore_errors=True)
data.save_to_disk(at("saved"), num_shards=2)
rows["saved"] = plain(datasets.load_from_disk(at("saved")).to_list())
datasets.DatasetDict({"train": data.select([2, 0]), "test": data.select([1])}).save_to_disk(at("splits"))
for split in ["train", "test"]: rows[f"splits {split}"] = plain(datasets.load_from_disk(at("splits"))[split].to_list())
plainer = table.cast(pa.schema([("prompt", pa.dictionary(pa.int32(), pa.string()))] + [table.schema.field(i) for i in range(1, 4)]))
with pa.OSFile(at("file.arrow"), "wb") as sink, pa.ipc.new_file(sink, plainer.schema) as writer:
    writer.write_table(plainer, max_chunksize=2)
load("file.arrow", "arrow")
texts = pa.table({"prompt": ["Is it late?", "é"], "chosen": ["Yes", "No 🙂"], "rejected": ["No", None]})
with pa.OSFile(at("texts.arrow"), "wb") as sink, pa.ipc.new_stream(sink, texts.schema) as writer:
    writer.write_table(texts)
load("texts.arrow", "arrow")
with open(at("rows.json"), "w") as file: json.dump(rows, file, indent=1, allow_nan=False)
shutil.rmtree(cache)
