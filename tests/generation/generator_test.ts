/** Requests beside each other, and what becomes of them; generate_test.ts says whether the tokens are right. */
import assert from "node:assert/strict";
import { pack } from "../../lib/batch/pack.ts";
import { type GeneratorOptions, GpuGenerator } from "../../lib/generation/gpu_generator.ts";
import {
  type GeneratedToken,
  type GenerationRequest,
  GREEDY,
  type Sampling,
} from "../../lib/generation/request.ts";
import { attentionTiles, BUFFER_TILES, onlyTile } from "../../lib/gpu/tuning.ts";
import type { Pipelines } from "../../lib/gpu/program.ts";
import { Decoder } from "../../lib/graph/decoder.ts";
import { wgslOf } from "../../lib/losses/loss.ts";
import { losses } from "../../lib/losses/losses.ts";
import { netOf } from "../../lib/models/models.ts";
import { openModel } from "../../lib/weights/weights.ts";
import { readGolden } from "../golden_run.ts";
import { deviceTest, useGpu } from "../kernels/harness.ts";

const { pairs } = await readGolden("untied");
const largestBuffer = 2 ** 27;
const tiles = onlyTile(BUFFER_TILES["storage 8x8"]);
const attention = attentionTiles("software");
const POSITIONS = 64;

/** Both ways over the same weights. */
interface Both {
  generator: GpuGenerator;
  decoder: Decoder;
}

async function withBoth(
  pipelines: Pipelines,
  folder: string,
  given: Partial<GeneratorOptions>,
  body: (both: Both) => Promise<void>,
) {
  const { gpu } = pipelines;
  const weights = await openModel(folder);
  const positions = POSITIONS;
  const capacity = {
    tokens: positions,
    labels: 64,
    pairs: 1,
    positions,
    logitsBytes: 2 ** 20,
    checkpointing: false,
  };
  const options = { largestBuffer, loss: wgslOf(losses.simper), training: false, tiles, attention };
  const decoder = new Decoder(netOf(weights.model), capacity, options);
  const { net, parameters } = decoder;
  const how: GeneratorOptions = { positions, largestBuffer, device: "software", tiles, attention, ...given };
  await decoder.allocate(gpu, pipelines);
  const generator = await GpuGenerator.open(gpu, pipelines, net, parameters, how);
  try {
    await decoder.load(gpu, weights);
    await body({ generator, decoder });
  } finally {
    await weights.close();
    generator.plan.destroy();
    decoder.destroy();
  }
}

const ask = (ids: readonly number[], given: Partial<GenerationRequest> = {}): GenerationRequest => ({
  ids,
  maxNewTokens: 8,
  sampling: GREEDY,
  eosTokenIds: [],
  top: 0,
  echo: false,
  ...given,
});

const all = (tokens: AsyncGenerator<GeneratedToken>) => Array.fromAsync(tokens);

useGpu();
const LLAMA = "tests/golden/llama/untied";
const row = pairs[0].chosen.ids;

deviceTest("whatever is answered beside it, a request has the same bits", (pipelines) =>
  // Room for three of the five at a time.
  withBoth(pipelines, LLAMA, { answers: 4, cacheTokens: 3 * 64 }, async ({ generator }) => {
    const sampling = { ...GREEDY, temperature: 1, topK: 50, topP: 0.9, repetitionPenalty: 1.2 };
    const requests = [40, 33, 1, 20, 39].map((length, i) =>
      ask(row.slice(0, length), {
        maxNewTokens: 4 + 4 * i,
        top: i,
        sampling: i % 2 ? GREEDY : { ...sampling, seed: i },
      })
    );
    const alone: GeneratedToken[][] = [];
    for (const request of requests) alone.push(await all(generator.tokens(request)));
    assert.ok(alone.every((tokens, i) => tokens.length === requests[i].maxNewTokens));
    const together = await Promise.all(requests.map((request) => all(generator.tokens(request))));
    assert.deepEqual(together, alone);
    const otherSeed = ask(row.slice(0, 40), { sampling: { ...sampling, seed: 7 }, maxNewTokens: 12 });
    assert.notDeepEqual((await all(generator.tokens(otherSeed))).slice(0, 4), alone[0]);
    assert.deepEqual(generator.load, { running: 0, waiting: 0, keptTokens: 0, mostTokens: 192 });
  }));

deviceTest(
  "the prompt's tokens are as likely as a decoder says, and what was read of a prompt is taken over",
  (pipelines) =>
    withBoth(pipelines, LLAMA, {}, async ({ generator, decoder }) => {
      const ids = row.slice(0, 45);
      const request = ask(ids, { echo: true, maxNewTokens: 1, top: 3 });
      const told = await all(generator.tokens(request));
      assert.deepEqual(told.map(({ id }) => id).slice(0, -1), ids.slice(1));
      const batch = pack(
        [{ chosen: { ids, promptLength: 1 }, truncated: false, where: "" }],
        decoder.net.windows,
      );
      const expected = await decoder.logProbabilities(pipelines.gpu, batch);
      for (const [i, { logProbability, top, id }] of told.slice(0, -1).entries()) {
        assert.ok(Math.abs(logProbability - expected[i]) < 1e-5);
        assert.ok(
          top[0].logProbability >= top[1].logProbability && top[1].logProbability >= top[2].logProbability,
        );
        for (const other of top) if (other.id === id) assert.equal(other.logProbability, logProbability);
      }
      const [next] = await all(generator.tokens(ask(ids, { maxNewTokens: 1, top: 3 })));
      assert.deepEqual(next, told.at(-1));
      assert.deepEqual(
        await all(generator.tokens(ask(ids, { echo: true, maxNewTokens: 0, top: 3 }))),
        told.slice(0, -1),
      );
    }),
);

deviceTest(
  "what would overflow is not drawn from: a temperature of nothing takes the likeliest token, and top_k of any size counts",
  (pipelines) =>
    withBoth(pipelines, LLAMA, {}, async ({ generator }) => {
      const of = async (sampling: Partial<Sampling>) =>
        (await all(generator.tokens(ask(row.slice(0, 20), { sampling: { ...GREEDY, ...sampling } }))))
          .map(({ id }) => id);
      const greedy = await of({});
      // What was drawn before is still there.
      const drawn = await of({ temperature: 3, seed: 5 });
      assert.notDeepEqual(drawn, greedy);
      for (const temperature of [1e-6, 1e-39, 1e-300]) {
        assert.deepEqual(await of({ temperature, seed: 5 }), greedy, `${temperature}`);
      }
      assert.deepEqual(await of({ temperature: 3, seed: 5, topK: 2 ** 32 + 1 }), drawn);
    }),
);

deviceTest(
  "who leaves, and who is stopped, frees the place of a request",
  (pipelines) =>
    withBoth(pipelines, LLAMA, {}, async ({ generator }) => {
      const long = ask(row.slice(0, 8), { maxNewTokens: 50 });
      const stop = new AbortController();
      const stopped = all(generator.tokens(long, stop.signal));
      const waiting = all(generator.tokens(long));
      setTimeout(() => stop.abort(new Error("stopped")), 20);
      await assert.rejects(stopped, /stopped/);
      for await (const _ of generator.tokens(long)) break;
      assert.equal((await waiting).length, 50);
      for (let i = 0; i < 500 && generator.load.running > 0; i++) {
        await new Promise((done) => setTimeout(done, 10));
      }
      assert.equal(generator.load.keptTokens, 0);
      const [{ id }] = await waiting;
      assert.deepEqual((await all(generator.tokens({ ...long, eosTokenIds: [id] }))).map(({ id }) => id), [
        id,
      ]);
    }),
);

deviceTest(
  "a request that cannot be answered is refused",
  (pipelines) =>
    withBoth(pipelines, LLAMA, {}, async ({ generator }) => {
      for (
        const [request, message] of [
          [ask([]), /0 tokens/],
          [ask(row.slice(0, 40), { maxNewTokens: 25 }), /together at most 64/],
          [ask([1, 1e6]), /token 1000000/],
          [ask([1, -1]), /token -1/],
          [ask([1], { top: 21 }), /top 21: expected 0 to 20/],
        ] as const
      ) await assert.rejects(all(generator.tokens(request)), message);
    }),
);
