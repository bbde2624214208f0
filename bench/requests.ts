/**
 * Many requests to a generator, most of which are left or stopped at a random moment, and some of which cannot be
 * answered: whether anything leaks or hangs, and how long answers take.
 *     deno run -A bench/requests.ts MODEL_FOLDER [REQUESTS] [MALFORMED]
 */
import assert from "node:assert/strict";
import { loadOntoGpu } from "../lib/generation/model.ts";
import { GREEDY } from "../lib/generation/request.ts";
import { uniform } from "../lib/random.ts";

const [folder, requests = "1000", malformed = "50"] = Deno.args;
if (!folder) {
  console.error("usage: deno run -A bench/requests.ts MODEL_FOLDER [REQUESTS] [MALFORMED]");
  Deno.exit(2);
}
const [ANSWERS, CLIENTS, LENGTH] = [8, 24, 128];
await using model = await loadOntoGpu(folder, { maxLength: LENGTH, answers: ANSWERS, pairs: 0 });
const { gpu } = model.parts;
const generator = model.parts.generator!;
const next = uniform(1);
const below = (most: number) => Math.floor(next() * most);

// Every buffer that is created and destroyed from now on.
let bytes = 0;
const create = gpu.device.createBuffer.bind(gpu.device);
gpu.device.createBuffer = (descriptor) => {
  const buffer = create(descriptor);
  bytes += descriptor.size;
  const destroy = buffer.destroy.bind(buffer);
  let isThere = true;
  buffer.destroy = () => {
    if (isThere) bytes -= descriptor.size;
    isThere = false;
    return destroy();
  };
  return buffer;
};

const seconds: number[] = [];
const ends = { whole: 0, left: 0, stopped: 0, refused: 0 };
async function ask(isMalformed: boolean): Promise<void> {
  const ids = Array.from({ length: 1 + below(60) }, () => below(generator.vocabSize));
  const request = {
    ids,
    maxNewTokens: 1 + below(60),
    sampling: {
      ...GREEDY,
      temperature: below(2),
      topP: 0.9,
      seed: below(2 ** 31),
      presencePenalty: below(2),
    },
    eosTokenIds: [],
    top: below(4),
    echo: below(4) === 0,
  };
  if (isMalformed) {
    const wrong = [{ ids: [] }, { ids: [-1] }, { ids: [1.5] }, { ids: [2 ** 31] }, { maxNewTokens: LENGTH }];
    await assert.rejects(
      Array.fromAsync(generator.tokens({ ...request, ...wrong[below(wrong.length)] })),
      RangeError,
    );
    ends.refused++;
    return;
  }
  const start = performance.now();
  const way = below(3);
  const stop = new AbortController();
  const timer = way === 1 ? setTimeout(() => stop.abort(new Error("stopped")), below(400)) : undefined;
  const most = way === 2 ? below(request.maxNewTokens) : Infinity;
  let told = 0;
  try {
    for await (const _ of generator.tokens(request, stop.signal)) if (told++ >= most) break;
    const whole = request.maxNewTokens + (request.echo ? ids.length - 1 : 0);
    if (way === 2 && told < whole) ends.left++;
    else {
      assert.equal(told, whole);
      ends.whole++;
      seconds.push((performance.now() - start) / 1000);
    }
  } catch (error) {
    if (!stop.signal.aborted) throw error;
    ends.stopped++;
  } finally {
    clearTimeout(timer);
  }
}

const total = Number(requests) + Number(malformed);
const every = Math.ceil(total / Number(malformed));
let asked = 0;
const begin = performance.now();
const show = () => {
  const { rss } = Deno.memoryUsage();
  console.log(`${asked} asked: ${bytes} bytes of buffers more than before, RSS ${(rss / 1e6).toFixed(0)} MB`);
};
await Promise.all(Array.from({ length: CLIENTS }, async () => {
  while (asked < total) {
    const i = asked++;
    if (i % Math.ceil(total / 8) === 0) show();
    await ask(i % every === every - 1);
  }
}));
for (let i = 0; i < 1000 && generator.load.running > 0; i++) {
  await new Promise((done) => setTimeout(done, 10));
}
assert.deepEqual({ ...generator.load, mostTokens: 0 }, {
  running: 0,
  waiting: 0,
  keptTokens: 0,
  mostTokens: 0,
});
show();
assert.equal(bytes, 0);
seconds.sort((a, b) => a - b);
const at = (share: number) => seconds[Math.floor(share * (seconds.length - 1))].toFixed(2);
console.log(
  `${JSON.stringify(ends)} in ${
    ((performance.now() - begin) / 1000).toFixed(0)
  } s, ${CLIENTS} clients, ${ANSWERS} answers ` +
    `at a time; whole answers take ${at(0.5)} s (p50), ${at(0.95)} s (p95)`,
);
