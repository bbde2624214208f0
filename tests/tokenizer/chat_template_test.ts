import assert from "node:assert/strict";
import { chatRenderer, type Message, usesDate } from "../../lib/tokenizer/chat_template.ts";
import { parseJson } from "../../lib/data/python_json.ts";

const HELLO = [{ role: "user", content: "Hello" }];
const render = (template: string) => chatRenderer(template, { bos_token: "<s>" }, "model")(HELLO);

Deno.test("a template has what Jinja and transformers give it", () => {
  assert.equal(render("{% for i in range(2, 9, 3) %}{{ i }},{% endfor %}{{ range(2) | length }}"), "2,5,8,2");
  assert.equal(render("{{ range(5, 0, -2) | length }}{{ range(-1) | length }}"), "30");
  assert.equal(render("{{ bos_token if True and not None else false }}"), "<s>");
  assert.equal(render("{% if tools is none and strftime_now is defined %}x{% endif %}"), "x");
  const date = new Date();
  const month = date.toLocaleDateString("en-US", { month: "short" });
  const day = String(date.getDate()).padStart(2, "0");
  assert.equal(
    render('{{ strftime_now("%d %b %Y, 100%%") }}'),
    `${day} ${month} ${date.getFullYear()}, 100%`,
  );
  assert.throws(() => render("{{ raise_exception('no ' + messages[0].role) }}"), {
    name: "UserError",
    message: /refuses the messages with roles user, first at message 1 \(user\), in its line 1: no user/,
  });
});

Deno.test("a template that fails is told with its line and the message that it fails at", () => {
  const template = `{# {{ not a tag }} #}{% for m in messages %}
{%- if m.role == "{% user" or m.role == "user" %}
  {{ m.content }}
{%- else %}

  {{ raise_exception("no " + m.role) }}{{ m.content }}
{% endif %}{% endfor %}`;
  const messages = ["user", "user", "tool", "user"].map((role) => ({ role, content: "" }));
  assert.throws(() => chatRenderer(template, {}, "model")(messages), {
    message: /roles user, user, tool, user, first at message 3 \(tool\), in its line 6: no tool$/,
  });
  assert.throws(() => chatRenderer("{{ messages[0].role.no() }}", {}, "model")(messages), /in its line 1: /);
  assert.throws(() => chatRenderer("{% if %}", {}, "model")(messages), /not valid Jinja: /);
});

Deno.test("a template is stopped before it takes long or much memory", () => {
  const stopped = (template: string, message: RegExp) =>
    assert.throws(() => render(template), { name: "UserError", message });
  const large = /Range too big\. The sandbox blocks ranges larger than MAX_RANGE \(100000\)/;
  stopped("{% for i in range(1000000000) %}x{% endfor %}", large);
  stopped("{{ range(0, -10000000000000000000, -1) }}", large);
  const doubling = (start: string, sum: string) =>
    `{% set ns = namespace(x=${start}) %}{% for i in range(60) %}{% set ns.x = ${sum} %}{% endfor %}{{ ns.x }}`;
  stopped(doubling("'ab'", "ns.x + ns.x"), /makes more than \d+ characters of text and lists/);
  stopped(doubling("[1, 2]", "ns.x + ns.x"), /makes more than \d+ characters of text and lists/);
  const loop = "{% for i in range(100000) %}";
  stopped(`${loop}${loop}{% endfor %}{% endfor %}`, /takes more than 10000000 steps/);
  stopped("{% macro f(n) %}{{ f(n) }}{{ f(n) }}{% endmacro %}{{ f(1) }}", /too deep within each other|steps/);
});

Deno.test("a template is stopped before it is too deep, or what it makes is", () => {
  const refused = (template: string, message: RegExp) =>
    assert.throws(() => render(template), { name: "UserError", message });
  const nested = (sum: string, count: number, use: string) =>
    `{% set ns = namespace(x=[1]) %}{% for i in range(${count}) %}{% set ns.x = ${sum} %}{% endfor %}${use}`;
  for (const use of ["{{ ns.x }}", "{{ ns.x | tojson }}"]) {
    refused(nested("[ns.x, ns.x]", 60, use), /makes more than/);
    refused(nested("[ns.x]", 90_000, use), /too deep within each other/);
  }
  refused(nested("(ns.x, ns.x)", 60, "{{ {ns.x: 1} }}").replace("[1]", "(1,)"), /makes more than/);
  refused("{% set ns = namespace() %}{% set ns.x = ns %}{{ ns }}", /too deep within each other/);
  for (
    const made of ["'a' * 10**9", "[0] * 10**9", "'a'.center(10**9)", "'a b' | replace(' ', 'x' * 10**8)"]
  ) {
    refused(`{{ ${made} }}`, /makes more than/);
  }
  refused("{{ '%1000000000d' % 1 }}{{ 2 }}", /a width or precision of 1000000000 is not supported/);
  refused("{{ 10 ** 1000000000 }}", /an int of more than 4300 digits is not supported/);
  const deep: [string, string][] = [
    ["(", ")"],
    ["not ", ""],
    ["-", ""],
    ["1 if 0 else ", ""],
    ["", "|upper"],
    ["", ".a"],
    ["", "+1"],
  ];
  for (const [before, after] of deep) {
    refused(`{{ ${before.repeat(50_000)}1${after.repeat(50_000)} }}`, /not valid Jinja: too/);
  }
  refused("{% if 1 %}".repeat(5000) + "{% endif %}".repeat(5000), /not valid Jinja: too many statements/);
});

Deno.test("a template reaches nothing of JavaScript", () => {
  assert.equal(
    render(
      "{{ messages[0].__proto__ }}{{ messages[0]['constructor'] }}{{ ''.constructor }}{{ {}.toString }}",
    ),
    "",
  );
  assert.equal(
    render("{{ 'a' | attr('constructor') }}{{ namespace().hasOwnProperty }}{{ range.constructor }}"),
    "",
  );
  assert.throws(
    () => render("{{ messages.append(1) }}"),
    /access to attribute 'append' of 'list' object is unsafe/,
  );
  assert.throws(
    () => render("{{ messages[0].constructor('return 1')() }}"),
    /has no attribute 'constructor'/,
  );
  for (const word of ["1 | constructor", "1 is toString", "[1] | map('constructor') | list"]) {
    assert.throws(() => render(`{{ ${word} }}`), /No (filter|test) named/);
  }
});

Deno.test("a large template and hostile text of it end in a moment", () => {
  const begun = performance.now();
  for (
    const text of [
      " ".repeat(3e6) + "{{ 1 }}",
      "{# ".repeat(3e5),
      "{% raw %}" + "{% ".repeat(3e5),
      "{{ '" + "\\".repeat(1e6),
    ]
  ) {
    try {
      render(text);
    } catch (error) {
      assert.match((error as Error).message, /not valid Jinja/);
    }
  }
  render(
    "{{ ('a' + ' ' * 1000000 + 'b') | trim | length }}{{ (' ' * 1000000).split() }}{{ (' ' * 1000000) | striptags }}",
  );
  assert.ok(performance.now() - begun < 20_000);
});

Deno.test("what a row holds comes to the template as in Python", () => {
  const show = (row: string) => chatRenderer("{{ messages[0].v }}", {}, "model")([parseJson(row) as Message]);
  assert.equal(
    show('{"role": "user", "v": [1, 1.0, -0.0, 1e3, 12345678901234567890, null, true, "it\'s"]}'),
    '[1, 1.0, -0.0, 1000.0, 12345678901234567890, None, True, "it\'s"]',
  );
  const message = (v: unknown) => [{ role: "user", content: null, v }];
  const given = (v: unknown) => chatRenderer("{{ messages[0].v }}", {}, "model")(message(v));
  assert.equal(given({ a: undefined, b: 10n, c: [{}] }), "{'b': 10, 'c': [{}]}");
  assert.throws(() => given(2 ** 60), /messages: the number \d+ is beyond 2\^53/);
  assert.throws(() => given(new Date()), /messages: a chat template has no use for an object/);
  const tools = chatRenderer("{{ tools | length }}{{ documents }}", {}, "model");
  assert.equal(tools(message(1), { tools: [{ type: "function" }] }), "1None");
  assert.throws(() => tools(message(1), { tools: "f" }), /tools: expected a list of objects/);
});

Deno.test("strftime_now tells the date that is given", () => {
  const template = "{{ strftime_now('%d %b %Y, %H:%M') }}";
  assert.equal(
    chatRenderer(template, {}, "model", { date: new Date(2024, 6, 26) })(HELLO),
    "26 Jul 2024, 00:00",
  );
  assert.ok(usesDate(template) && usesDate("{% if strftime_now is defined %}x{% endif %}"));
  assert.ok(
    !usesDate("{{ 'strftime_now' }}{# strftime_now() #}strftime_now") && !usesDate("{{ strftime_now(" + "'"),
  );
});

Deno.test("a long conversation is far from the bounds", () => {
  const template =
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] | trim + '<e>' }}{% endfor %}";
  const messages = Array.from({ length: 1000 }, () => ({ role: "user", content: " word".repeat(2000) }));
  assert.equal(chatRenderer(template, {}, "model")(messages).length, 1000 * (8 + 9999 + 3));
});
