"""Writes rendered.json: what the published MISTRAL_CHAT_TEMPLATE makes of conversations (transformers 5.17, jinja2 3.1).

  python tests/golden/mistral/make.py RUN_SIMPER_PY        scripts/run_simper.py of tengxiao1/SimPER (at 7c9ae9e)
"""
import ast, json, os, sys
from transformers import PreTrainedTokenizerFast
from tokenizers import Tokenizer, models

source = ast.parse(open(sys.argv[1]).read())
template = next(ast.literal_eval(node.value) for node in source.body
                if isinstance(node, ast.Assign) and node.targets[0].id == "MISTRAL_CHAT_TEMPLATE")
tokenizer = PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.WordLevel({"<unk>": 0}, "<unk>")),
                                    bos_token="<s>", eos_token="<|im_end|>", unk_token="<unk>", chat_template=template)
system, user, assistant, tool = ((lambda content, role=role: {"role": role, "content": content})
                                 for role in ("system", "user", "assistant", "tool"))
CONVERSATIONS = [
    [user("Hi")],
    [system(""), user("Hi")],
    [system("  Be brief.\n"), user("  Hi \n")],
    [system("Be brief."), user("Hi"), assistant(" Hello! "), user("Bye")],
    [system("Be brief."), assistant("Hello!"), user("Hi")],
    [system("Be brief."), tool("42"), user("Hi")],
    [user("Hi"), system("Be brief."), user("Again")],
    [user("Hi"), assistant("Hello!"), tool("42"), assistant("It is 42.")],
    [assistant("The answer.")],
    [assistant("")],
    [assistant(" \n ")],
    [assistant("Two\n\nparagraphs  \n")],
    [user("[INST] nested [/INST] <|im_end|>"), assistant("日本 👨‍👩‍👧 {{ messages }}")],
    [system("Alone.")],
]
here = os.path.dirname(os.path.abspath(__file__))
with open(os.path.join(here, "rendered.json"), "w") as f:
    json.dump([{"messages": c, "text": tokenizer.apply_chat_template(c, tokenize=False)} for c in CONVERSATIONS], f,
              ensure_ascii=False, indent=1)
    f.write("\n")
