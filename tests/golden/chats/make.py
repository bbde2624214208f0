"""Writes rendered.json: what transformers makes of conversations, parted by seed_rules.py's `render_whole`; and calls.parquet,
whose messages have null where a key of others is absent, with what is made of its rows as datasets reads them.

  python tests/golden/chats/make.py SHARED_REFERENCE_FOLDER        (transformers 5.17, datasets 5.0)

The templates are small ones with the behaviour of those that are in use: a system turn where the data have none (SmolLM2,
Qwen2.5, Llama 3.1, Cohere), roles that alternate and no system turn (Gemma), another beginning of an answer in the history than
after a generation prompt (DeepSeek-R1), parts of content, tools, tool calls and documents.
"""
import functools, json, os, sys
sys.path.insert(0, sys.argv[1])
from datasets import Dataset
from seed_rules import render_whole
from transformers import AutoTokenizer

HERE = os.path.dirname(os.path.abspath(__file__))
ALTERNATE = ("{% if (message['role'] == 'user') != (loop.index0 % 2 == 0) %}"
             "{{ raise_exception('Conversation roles must alternate user/assistant/user/assistant/...') }}{% endif %}")
TEMPLATES = {
    "smollm2": "{% for message in messages %}{% if loop.first and messages[0]['role'] != 'system' %}{{ '<|im_start|>system\n"
               "You are a helpful AI assistant named SmolLM<|im_end|>\n' }}{% endif %}{{'<|im_start|>' + message['role'] + '\n' + "
               "message['content'] + '<|im_end|>' + '\n'}}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    "qwen2.5": "{%- if messages[0]['role'] == 'system' %}\n    {{- '<|im_start|>system\\n' + messages[0]['content'] + '<|im_end|>\\n' }}\n"
               "{%- else %}\n    {{- '<|im_start|>system\\nYou are Qwen.<|im_end|>\\n' }}\n{%- endif %}\n{%- for message in messages %}\n"
               "    {%- if message.role == 'user' or (message.role == 'system' and not loop.first) or message.role == 'assistant' %}\n"
               "        {{- '<|im_start|>' + message.role + '\\n' + message.content + '<|im_end|>' + '\\n' }}\n    {%- endif %}\n{%- endfor %}\n"
               "{%- if add_generation_prompt %}\n    {{- '<|im_start|>assistant\\n' }}\n{%- endif %}\n",
    "llama3.1": "{{- bos_token }}\n{%- if messages[0]['role'] == 'system' %}\n    {%- set system_message = messages[0]['content'] | trim %}\n"
                "    {%- set messages = messages[1:] %}\n{%- else %}\n    {%- set system_message = \"\" %}\n{%- endif %}\n"
                "{{- \"<|start_header_id|>system<|end_header_id|>\\n\\n\" }}\n{{- \"Today Date: 26 Jul 2024\\n\\n\" }}\n{{- system_message }}\n"
                "{{- \"<|im_end|>\" }}\n{%- for message in messages %}\n    {{- '<|start_header_id|>' + message['role'] + "
                "'<|end_header_id|>\\n\\n' + message['content'] | trim + '<|im_end|>' }}\n{%- endfor %}\n{%- if add_generation_prompt %}\n"
                "    {{- '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}\n{%- endif %}\n",
    "gemma": "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{{ raise_exception('System role not supported') }}{% endif %}"
             "{% for message in messages %}" + ALTERNATE + "{% if (message['role'] == 'assistant') %}{% set role = 'model' %}{% else %}"
             "{% set role = message['role'] %}{% endif %}{{ '<start_of_turn>' + role + '\n' + message['content'] | trim + '<end_of_turn>\n' }}"
             "{% endfor %}{% if add_generation_prompt %}{{'<start_of_turn>model\n'}}{% endif %}",
    "cohere": "{{ bos_token }}{% if messages[0]['role'] == 'system' %}{% set loop_messages = messages[1:] %}{% set system_message = "
              "messages[0]['content'] %}{% else %}{% set loop_messages = messages %}{% set system_message = 'You are Command.' %}{% endif %}"
              "{{ '<|START|><|SYSTEM|>' + system_message + '<|END|>' }}{% for message in loop_messages %}" + ALTERNATE +
              "{% if message['role'] == 'user' %}{{ '<|START|><|USER|>' + message['content'].strip() + '<|END|>' }}"
              "{% elif message['role'] == 'assistant' %}{{ '<|START|><|CHATBOT|>' + message['content'].strip() + '<|END|>' }}{% endif %}"
              "{% endfor %}{% if add_generation_prompt %}{{ '<|START|><|CHATBOT|>' }}{% endif %}",
    "r1": "{{ bos_token }}{% for message in messages %}{% if message['role'] == 'user' %}{{ '<|User|>' + message['content'] }}"
          "{% elif message['role'] == 'assistant' %}{{ '<|Assistant|>' + message['content'].split('</think>')[-1] + eos_token }}"
          "{% else %}{{ message['content'] }}{% endif %}{% endfor %}{% if add_generation_prompt %}{{ '<|Assistant|><think>\n' }}{% endif %}",
    # The whole does not begin with the prompt alone, but with the prompt and a generation prompt.
    "ends": "{% for message in messages %}{{ '[' + message['role'] + ']' + message['content'] }}{% endfor %}"
            "{% if add_generation_prompt %}{{ '[assistant]' }}{% elif messages[-1]['role'] != 'assistant' %}{{ '[end]' }}{% endif %}",
    # The last message alone is marked: neither rendering of the prompt begins the whole.
    "last": "{% for message in messages %}{{ '[' + message['role'] + (' last' if loop.last else '') + ']' + message['content'] }}{% endfor %}",
    "parts": "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' }}{% if message['content'] is string %}"
             "{{ message['content'] }}{% else %}{% for part in message['content'] %}{% if part['type'] == 'text' %}{{ part['text'] }}"
             "{% endif %}{% endfor %}{% endif %}{{ '<|im_end|>\n' }}{% endfor %}",
    "tools": "{% if tools %}{{ '<|im_start|>system\n' }}{% for tool in tools %}{{ tool['function']['name'] + ': ' + "
             "tool['function']['description'] + '\n' }}{% endfor %}{{ '<|im_end|>\n' }}{% endif %}{% if documents %}"
             "{% for document in documents %}{{ document['title'] + ' | ' + document['text'] + '\n' }}{% endfor %}{% endif %}"
             "{% for message in messages %}{{ '<|im_start|>' + message['role'] }}{% if message['name'] %}{{ ' ' + message['name'] }}{% endif %}"
             "{{ '\n' }}{% if message['reasoning_content'] %}{{ '<think>' + message['reasoning_content'] + '</think>' }}{% endif %}"
             "{% if message['content'] %}{{ message['content'] }}{% endif %}{% if message['tool_calls'] %}{% for call in message['tool_calls'] %}"
             "{{ '<call>' + call['function']['name'] + ' ' + call['function']['arguments']['city'] + '</call>' }}{% endfor %}{% endif %}"
             "{{ '<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}",
    # Whether a key is there, and whether it is null.
    "keys": "{% for message in messages %}{{ '[' + message['role'] }}{% if message['tool_calls'] is defined %}{{ ' has' }}"
            "{% if message['tool_calls'] is none %}{{ ' null' }}{% endif %}{% endif %}{{ ']' }}"
            "{% if message['content'] %}{{ message['content'] }}{% endif %}{% endfor %}",
}


def turn(role, content, **more): return {"role": role, "content": content, **more}
def text(*texts): return [{"type": "text", "text": t} for t in texts]


CALL = [{"type": "function", "function": {"name": "weather", "arguments": {"city": "Rome"}}}]
TOOLS = [{"type": "function", "function": {"name": "weather", "description": "The weather of a city", "parameters": {"type": "object"}}}]
Q, A, B = turn("user", "Is it late?"), turn("assistant", "It is nine."), turn("assistant", " Look at a clock. ")
ROWS = [
    {"chosen": [Q, A], "rejected": [Q, B]},
    {"chosen": [turn("system", "Be brief."), Q, A], "rejected": [turn("system", "Be brief."), Q, B]},
    {"chosen": [Q, A, turn("user", "And now?"), turn("assistant", "Ten.")], "rejected": [Q, A, turn("user", "And now?"), turn("assistant", "")]},
    {"prompt": [Q], "chosen": [A], "rejected": [B]},
    {"prompt": [Q], "chosen": [A, turn("user", "Sure?"), turn("assistant", "Yes.")], "rejected": [B]},
    {"chosen": [Q, turn("assistant", "<think>Look.</think>Nine.")], "rejected": [Q, turn("assistant", "Nine.")]},
    {"chosen": [turn("user", text("Is it ", "late?")), turn("assistant", text("It is nine."))],
     "rejected": [Q, turn("assistant", [{"type": "text", "text": "No.", "image": None}])]},
    {"prompt": [Q], "chosen": [turn("assistant", None, tool_calls=CALL), turn("tool", "Rain", name="weather"), A],
     "rejected": [{"role": "assistant", "tool_calls": CALL}], "tools": TOOLS},
    {"prompt": [Q], "chosen": [turn("assistant", "Nine.", reasoning_content="A clock says so.")], "rejected": [A], "tools": json.dumps(TOOLS),
     "documents": [{"title": "Clocks", "text": "They tell the time."}]},
    {"prompt": [turn("user", "Hi", tool_calls=None)], "chosen": [turn("assistant", "Yes.", tool_calls=None, name=None)], "rejected": [A],
     "tools": None, "documents": "null"},
    {"prompt": [Q], "chosen": [A], "rejected": [B], "tools": [], "documents": json.dumps([{"title": "A", "text": "B"}])},
]


class WithColumns:
    """A tokenizer whose template is given a row's `tools` and `documents`, which may be JSON text (as TRL reads tools)."""

    def __init__(self, tok, row):
        columns = {k: json.loads(v) if isinstance(v, str) else v for k, v in row.items() if k in ("tools", "documents")}
        self.chat_template = tok.chat_template
        self.apply_chat_template = functools.partial(tok.apply_chat_template, **columns)


def main():
    tok = AutoTokenizer.from_pretrained(os.path.join(HERE, "..", "data", "tokenizer"))
    rendered = []
    for name, template in TEMPLATES.items():
        tok.chat_template = template
        for i, row in enumerate(ROWS):
            # How a list or null prints is the engine's matter.
            unlike = {type(m.get("content")) for m in row["chosen"]} - {str}
            if unlike and name not in (("parts",) if list in unlike else ("tools", "keys")): continue
            for empty_system in (True, False):
                try: parts = render_whole(row, WithColumns(tok, row), empty_system)
                except Exception: parts = None
                rendered.append({"template": name, "row": i, "empty_system": empty_system, "parts": parts})
    path = os.path.join(HERE, "calls.parquet")
    Dataset.from_list([ROWS[7], ROWS[3], ROWS[4]]).to_parquet(path)
    calls = []
    for name in ("tools", "keys"):
        tok.chat_template = TEMPLATES[name]
        calls += [{"template": name, "parts": [render_whole(row, WithColumns(tok, row)) for row in Dataset.from_parquet(path)]}]
    with open(os.path.join(HERE, "rendered.json"), "w", encoding="utf-8") as f:
        json.dump({"templates": TEMPLATES, "rows": ROWS, "rendered": rendered, "calls": calls}, f, ensure_ascii=False, indent=0)


main()
