import assert from "node:assert/strict";
import { assertEqualBytes, assertSame } from "./equal_bytes.ts";

/** The message that a comparison must fail with. */
function failure(compare: () => void): string {
  try {
    compare();
  } catch (error) {
    assert.ok(error instanceof assert.AssertionError, String(error));
    return error.message;
  }
  assert.fail("no difference was found");
}

Deno.test("equal arrays are equal, whatever memory they lie in", () => {
  const memory = Uint8Array.of(9, 1, 2, 3, 9);
  assertEqualBytes(memory.subarray(1, 4), Uint8Array.of(1, 2, 3));
  assertEqualBytes(new Float32Array(), new Float32Array());
  assertEqualBytes(Float32Array.of(NaN, -0), Float32Array.of(NaN, -0));
});

Deno.test("the first difference is named, with both values and what is around them", () => {
  const [one, other] = [0, 1].map(() => Float32Array.from({ length: 1000 }, (_, i) => i / 2));
  other[500] = 7;
  other[900] = 8;
  assert.equal(
    failure(() => assertEqualBytes(one, other, "weights")),
    "weights: element 500 of 1000 is 250, expected 7; " +
      "around it [248.5, 249, 249.5, 250, 250.5, 251, 251.5], expected [248.5, 249, 249.5, 7, 250.5, 251, 251.5]",
  );
});

Deno.test("arrays of other lengths differ where the shorter one ends, and no earlier", () => {
  const bytes = Uint8Array.of(1, 2, 3);
  for (
    const [actual, expected, says] of [
      [bytes, bytes.subarray(0, 2), "(3 elements, expected 2) is 3, expected undefined"],
      [bytes.subarray(0, 2), bytes, "(2 elements, expected 3) is undefined, expected 3"],
    ] as const
  ) assert.ok(failure(() => assertEqualBytes(actual, expected)).startsWith(`array: element 2 ${says}`));
});

Deno.test("bits are compared: 0 is not -0, and NaNs of other bits differ", () => {
  assert.match(
    failure(() => assertEqualBytes(Float32Array.of(0), Float32Array.of(-0))),
    /is 0, expected -0/,
  );
  const nan = (bits: number) => new Float32Array(Uint32Array.of(bits).buffer);
  failure(() => assertEqualBytes(nan(0x7fc00001), nan(0x7fc00000)));
  failure(() => assertEqualBytes(Uint8Array.of(1, 0), Uint16Array.of(1)));
});

Deno.test("the place of a difference within lists, objects and maps is named", () => {
  const value = () => ({
    pairs: [{ ids: [1, 2, 3], where: "a:1" }],
    bits: new Map([["w", Uint8Array.of(1, 2)]]),
  });
  assertSame(value(), value());
  const changes: [(changed: ReturnType<typeof value>) => void, string][] = [
    [({ pairs }) => pairs[0].ids[1] = 9, 'value["pairs"]["0"]["ids"]["1"] is 2, expected 9'],
    [({ pairs }) => pairs[0].ids.pop(), 'value["pairs"]["0"]["ids"]["2"] is 3, expected undefined'],
    [
      ({ pairs }) => pairs.push(pairs[0]),
      'value["pairs"]["1"] is undefined, expected {"ids":[1,2,3],"where":"a:1"}',
    ],
    [({ bits }) => bits.get("w")![1] = 7, 'value["bits"]["w"]: element 1 of 2 is 2, expected 7; '],
    [({ bits }) => bits.set("x", Uint8Array.of()), 'value["bits"]["x"] is undefined, expected '],
    [({ pairs }) => Object.assign(pairs[0], { more: undefined }), 'value["pairs"]["0"] is '],
  ];
  for (const [change, says] of changes) {
    const changed = value();
    change(changed);
    const message = failure(() => assertSame(value(), changed));
    assert.ok(message.startsWith(says), message);
  }
});

Deno.test("a failing comparison of millions of numbers takes no memory to speak of", () => {
  const [one, other] = [0, 1].map((last) => new Uint8Array(4_000_000).fill(last, 3_999_999));
  const before = Deno.memoryUsage().rss;
  assert.ok(failure(() => assertEqualBytes(one, other)).length < 200);
  const numbers = (last: number) => [...new Uint8Array(200_000), last];
  assert.ok(failure(() => assertSame(numbers(0), numbers(1))).length < 200);
  assert.ok(Deno.memoryUsage().rss - before < 200e6);
});
