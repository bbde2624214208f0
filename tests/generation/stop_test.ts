import assert from "node:assert/strict";
import { untilStop } from "../../lib/generation/stop.ts";
import { uniform } from "../../lib/random.ts";

Deno.test("text ends before the first stop string, and what may begin one is held back", () => {
  assert.deepEqual(untilStop("a\n", ["\n\n"]), { text: "a" });
  assert.deepEqual(untilStop("a\nb", ["\n\n"]), { text: "a\nb" });
  assert.deepEqual(untilStop("a\n\nb", ["\n\n"]), { text: "a", stop: "\n\n" });
  assert.deepEqual(untilStop("abab", ["abac"]), { text: "ab" });
  assert.deepEqual(untilStop("aaaa", ["aab"]), { text: "aa" });
  assert.deepEqual(untilStop("text", []), { text: "text" });
  // The one that is whole first, and of two that are whole at once the longer.
  assert.deepEqual(untilStop("xabcd", ["abcd", "c"]), { text: "xab", stop: "c" });
  assert.deepEqual(untilStop("xabcd", ["cd", "bcd"]), { text: "xa", stop: "bcd" });
});

Deno.test("in whatever pieces a text comes, what is shown grows, and ends at the same place", () => {
  const next = uniform(7);
  const below = (count: number) => Math.floor(next() * count);
  const word = (most: number) => Array.from({ length: 1 + below(most) }, () => "ab\n"[below(3)]).join("");
  for (let i = 0; i < 2000; i++) {
    const text = word(24);
    const stops = Array.from({ length: below(4) }, () => word(4));
    const whole = untilStop(text, stops);
    let shown = "";
    for (let end = 1; end <= text.length; end += 1 + below(3)) {
      const next = untilStop(text.slice(0, end), stops);
      assert.ok(next.text.startsWith(shown), JSON.stringify({ text, stops, shown, next }));
      shown = next.text;
      if (next.stop !== undefined) {
        assert.deepEqual(next, whole);
        break;
      }
      assert.ok(!stops.some((stop) => shown.includes(stop)));
    }
    assert.ok(whole.text.startsWith(shown));
  }
});
