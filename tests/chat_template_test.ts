import assert from "node:assert/strict";
import { chatRenderer } from "../lib/chat_template.ts";

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

Deno.test("a long conversation is far from the bounds", () => {
  const template =
    "{% for m in messages %}{{ '<|' + m['role'] + '|>' + m['content'] | trim + '<e>' }}{% endfor %}";
  const messages = Array.from({ length: 1000 }, () => ({ role: "user", content: " word".repeat(2000) }));
  assert.equal(chatRenderer(template, {}, "model")(messages).length, 1000 * (8 + 9999 + 3));
});
