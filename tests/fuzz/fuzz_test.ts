import assert from "node:assert/strict";
import { fuzz } from "./fuzz.ts";
import { TARGETS } from "./targets.ts";

/** Cases that are the same each time, and some that never were before. */
const [KNOWN, FRESH] = [100, 30];
const SEED = 1;
const MOST_MEGABYTES = 1000;

for (const { name } of TARGETS) {
  Deno.test(`damaged ${name} ends in one clear message, or is read`, async () => {
    const seed = crypto.getRandomValues(new Uint32Array(1))[0];
    console.log(`deno task fuzz ${name}=${FRESH} --seed=${seed}`);
    const found = [await fuzz(name, SEED, 0, KNOWN), await fuzz(name, seed, 0, FRESH)];
    assert.deepEqual(found.flatMap(({ failures }) => failures), []);
    assert.ok(found.every(({ megabytes }) => megabytes < MOST_MEGABYTES), JSON.stringify(found));
  });
}

for (
  const [name, problem] of Object.entries({
    hang: /^hangs: \d+ ms/,
    crash: /^ended its process \(3\)/,
    stack: /^not a UserError: SyntaxError/,
    place: /^a message without a place: something is wrong/,
    memory: /^asked for 1073741824 bytes at once/,
    escape: /^wrote outside of its folder: evil/,
    promise: /^an unhandled rejection: Error: nobody waits/,
  })
) {
  Deno.test(`the harness sees a reader's fault: ${name}`, async () => {
    const { failures } = await fuzz(`broken-${name}`, 1, 0, 2);
    assert.deepEqual(failures.map(({ number }) => number), [0, 1]);
    for (const failure of failures) assert.match(failure.problem, problem);
  });
}
