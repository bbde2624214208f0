"""What transformers makes of chat templates of one feature each, for templates.json beside this file.

  python templates.py LIST.json > templates.json      (transformers 5.17, jinja2 3.1, Python 3.11)

LIST.json is a list of templates, or the file itself, whose templates are then rendered anew. A case is [template, text], or
[template, null] where Python raises; `dates` are [directive, text] of strftime at two moments.
"""
import copy, datetime, json, sys
from transformers.utils.chat_template_utils import render_jinja_template

MESSAGES = [{"role": "system", "content": ""},
            {"role": "user", "content": "Hello  World\n", "n": 3, "f": 1.0, "t": True, "d": {"a": 1, "b": [1, None]}, "s": "aXbXc"}]
MOMENTS = [(2024, 7, 6, 0, 0, 0), (2027, 1, 1, 15, 4, 9)]
FORMATS = (["%" + letter for letter in "aAbBcCdDeFgGhHIjklmMnpPrRStTuUVwWxXyYzZ%fQE"] +
           ["%-d", "%-m", "%_d", "%03d", "%-I", "%^a", "%#p", "%^B", "%5Y", "%-j", "%_H", "%Ey", "%Od", "%-y", "%e%", "a%", "%-f", "%10A", "%010d", "%#B", "%_5m"])


def rendered(template):
    try:
        return render_jinja_template([copy.deepcopy(MESSAGES)], chat_template=template, bos_token="<s>", eos_token="</s>")[0][0]
    except Exception:
        return None


if __name__ == "__main__":
    given = json.load(open(sys.argv[1]))
    templates = [case[0] for case in given["cases"]] if isinstance(given, dict) else given
    json.dump({"messages": MESSAGES, "dates": [[list(m), [[f, datetime.datetime(*m).strftime(f)] for f in FORMATS]] for m in MOMENTS],
               "cases": [[t, rendered(t)] for t in templates]}, sys.stdout, indent=0, ensure_ascii=True)
