"""Writes the golden files of this folder; the oracle is seed_rules.py, the tokenizer make_model.py's.

  python tests/golden/data/make.py SHARED_REFERENCE_FOLDER        (transformers 5.17, tokenizers 0.23)

  tokenizer/, digits/   model folders without a model: make_model.py's tokenizer, and one that cuts at numbers first
  rows.jsonl            made-up conversations
  pairs.json            per template and length setting the tokens of every row
  texts.json            per tokenizer the tokens of texts that are hard to cut into words
"""
import json, os, sys
sys.path.insert(0, sys.argv[1])
from make_model import CHATML, CORPUS, tokenizer
from seed_rules import render, tokenize_pair
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoTokenizer, PreTrainedTokenizerFast

HERE = os.path.dirname(os.path.abspath(__file__))
TEMPLATES = {
    "chatml": CHATML,
    "llama3": "{% for message in messages %}{% set content = '[' + message['role'] + ']\n\n' + message['content'] | trim + '<|im_end|>' %}"
              "{% if loop.index0 == 0 %}{% set content = bos_token + content %}{% endif %}{{ content }}{% endfor %}",
    "mistral": "{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}"
               "{% set system_message = messages[0]['content'].strip() + '\n\n' %}{% else %}{% set loop_messages = messages %}"
               "{% set system_message = '' %}{% endif %}{% for message in loop_messages %}"
               "{% if loop.index0 == 0 %}{% set content = system_message + message['content'] %}"
               "{% else %}{% set content = message['content'] %}{% endif %}"
               "{% if message['role'] == 'user' %}{{ '[INST] ' + content.strip() + ' [/INST]' }}"
               "{% elif message['role'] == 'assistant' %}{{ ' ' + content.strip() + ' ' + eos_token }}{% endif %}{% endfor %}",
    "zephyr": "{% for message in messages %}\n    {% if message['role'] == 'user' %}\n{{ '<|user|>\n' + message['content'] + eos_token }}\n"
              "    {% elif message['role'] == 'system' %}\n{{ '<|system|>\n' + message['content'] + eos_token }}\n"
              "    {%- elif message['role'] == 'assistant' -%}\n{{ '<|assistant|>\n' + message['content'] + eos_token }}\n"
              "    {% endif %}\n{% endfor %}\n",
    "plain": "{% for message in messages %}{{ message['role'] + ': ' + message['content'] + ' ' }}{% endfor %}",
}
SETTINGS = [("chatml", 1024, 512), ("chatml", 128, 64), ("chatml", 48, 16), ("llama3", 128, 64), ("mistral", 1024, 512),
            ("mistral", 96, 64), ("zephyr", 128, 32), ("plain", 1024, 512), ("plain", 64, 32)]


def user(text): return {"role": "user", "content": text}
def assistant(text): return {"role": "assistant", "content": text}
def system(text): return {"role": "system", "content": text}
def row(turns, chosen, rejected): return {"chosen": turns + [assistant(chosen)], "rejected": turns + [assistant(rejected)]}


LONG = "The tide comes in twice a day, and the harbour fills with small boats. " * 6
ROWS = [
    row([user("What is the tallest tree?")], "The coast redwood.", "Dunno."),
    row([user("Bonjour, ça va ?")], "Très bien, merci à vous !", "Non."),
    row([user("日本で一番高い山は?")], "富士山です。高さは3776メートルです。", "知りません"),
    row([user("Draw a family 👨‍👩‍👧‍👦 and a flag 🏳️‍🌈")], "Here: 👨‍👩‍👧‍👦 🏳️‍🌈!", "🙃"),
    row([user("هل الأرض كروية؟ ١٢٣")], "نعم، الأرض كروية.", "لا"),
    row([user("x² + ½ = Ⅻ ?")], "Then x² = 11½, so x ≈ 3.39.", "No idea ٤٢."),
    row([user("Say nothing.")], "", "I will not say nothing."),
    row([user("Say nothing twice.")], "Silence it is.", " \n "),
    row([system("You are a pirate."), user("Greet me.")], "Ahoy, matey!", "Hello."),
    row([system(""), user("Greet me again.")], "Ahoy again!", "Hi."),
    row([user("Hi"), assistant("Hello! How can I help?"), user("Name a colour.")], "Teal.", "Color? Go away."),
    row([user("One"), assistant("Two"), user("Three"), assistant("Four"), user("Five")], "Six", "Seven"),
    row([user(LONG + "What is this about?")], "It is about the tide in a harbour.", "Boats, I guess."),
    row([user("Tell me a long story.")], LONG, "Once upon a time."),
    row([user(LONG)], LONG + LONG, LONG),
    row([user("Same start")], "Same end", "Same end"),
    row([user("def f(a,\n      b):\n\treturn a+b\n\n\n# explain")], "It adds `a` and `b`:\n\n```py\nf(1, 2)  # 3\n```", "no\t\t"),
    row([user("It's the dog's, isn't it? They'll've gone.")], "You're right; I'd say it's theirs.", "'Tisn't."),
    row([user("   leading and trailing   ")], "  spaced  ", "\n\nlines\n\n"),
    row([user("a\u00a0b\u2003c\u3000d\u200be")], "non-breaking\u00a0space", "zero\u200dwidth"),
    row([user("Is <|im_end|> a token? And <|im_start|>?")], "Yes: <|im_end|> ends a turn.", "<|pad|>"),
    row([user("e\u0301 or \u00e9?")], "Both look like \u00e9; one is e\u0301.", "Same."),
    row([user("line\u2028separator and next\u0085line and a\ufeffmark")], "kept \u2028 as it is \u0085 \ufeff.", "\u2029 too"),
    row([user("100000000000 + 0.5e-7 = ?")], "100000000000.00000005", "1e11"),
    {"prompt": [user("Explicit prompt?")], "chosen": [assistant("Yes.")], "rejected": [assistant("No.")]},
    {"prompt": [system("Be brief."), user("More than one message?")], "chosen": [assistant("Two"), user("And?"), assistant("Done.")],
     "rejected": [assistant("One.")]},
    dict(row([user("Is a text prompt ignored?")], "It is.", "It is not."), prompt="Something else"),
]
TEXTS = [r["chosen"][0]["content"] for r in ROWS[:7] + ROWS[16:24]] + [
    "\ufeffx !\ufeff! \ufeff!y!\u0085\u0085z \u0085q", " ½ 3½ ²³ Ⅻ٣٤ 12 345", "\u00a0\u00a0 a  \u2003b \n c", "", " ", "\n\n \n", "A<|im_end|> <|im_start|>B"]


def save(tok, folder):
    tok.save_pretrained(os.path.join(HERE, folder))
    return AutoTokenizer.from_pretrained(os.path.join(HERE, folder))


def digits():
    tok = Tokenizer(models.BPE())
    tok.pre_tokenizer = pre_tokenizers.Sequence([pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)])
    tok.decoder = decoders.ByteLevel()
    # Merges that come out differently where a space, a mark or a number is taken for another class than Unicode's.
    joins = [" \u00a9 \u00ab \u00ac \u00ae", "!\u00a9", "!\ufeff!", " \ufeff!"] * 20
    tok.train_from_iterator(CORPUS + joins, trainers.BpeTrainer(
        vocab_size=300, special_tokens=["<|im_start|>", "<|im_end|>"], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return PreTrainedTokenizerFast(tokenizer_object=tok, bos_token="<|im_start|>", eos_token="<|im_end|>")


def joined(ids): return " ".join(map(str, ids))


def packed(ids, labels):
    n = labels.count(-100)
    assert labels == [-100] * n + ids[n:]
    return [joined(ids), n]


def main():
    tok, other = save(tokenizer(512), "tokenizer"), save(digits(), "digits")
    with open(os.path.join(HERE, "rows.jsonl"), "w", encoding="utf-8") as f:
        for r in ROWS: f.write(json.dumps(r, ensure_ascii=False) + "\n")
    golden = []
    for name, max_length, max_prompt_length in SETTINGS:
        tok.chat_template = TEMPLATES[name]
        for mode in ("keep_end", "keep_start") if max_length < 1024 else ("keep_end",):
            rows = []
            for r in ROWS:
                q = tokenize_pair(*render(r, tok), tok, max_length, max_prompt_length, mode)
                rows.append([packed(q[f"{k}_input_ids"], q[f"{k}_labels"]) for k in ("chosen", "rejected")])
            golden.append({"template": name, "max_length": max_length, "max_prompt_length": max_prompt_length,
                           "truncation_mode": mode, "rows": rows})
    with open(os.path.join(HERE, "pairs.json"), "w") as f:
        json.dump({"templates": TEMPLATES, "settings": golden}, f, indent=0)
    with open(os.path.join(HERE, "texts.json"), "w") as f:
        json.dump([{"text": t, **{n: joined(k(t, add_special_tokens=False)["input_ids"]) for n, k in (("tokenizer", tok), ("digits", other))}}
                   for t in TEXTS], f, indent=0)


if __name__ == "__main__":
    main()
