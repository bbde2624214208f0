import assert from "node:assert/strict";
import { join } from "node:path";
import { readGenerationConfig } from "../../lib/generation/generation_config.ts";
import { samplingOf, unusedKeys } from "../../lib/generation/sampling.ts";
import { refusal } from "../in_process.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

/** What is read of a folder with these files. */
const configOf = (files: Record<string, unknown>) =>
  withTemporaryFolder(async (folder) => {
    for (const [name, value] of Object.entries(files)) {
      await Deno.writeTextFile(join(folder, name), typeof value === "string" ? value : JSON.stringify(value));
    }
    return await readGenerationConfig(folder);
  });

const NAME = "generation_config.json";

Deno.test("a model that draws says how; one that does not is given the most likely tokens", async () => {
  // Llama-3's, and what transformers puts where it says nothing.
  const llama = await configOf({
    [NAME]: {
      do_sample: true,
      temperature: 0.6,
      top_p: 0.9,
      eos_token_id: [128001, 128009],
      max_length: 4096,
    },
  });
  assert.deepEqual(llama.eosTokenIds, [128001, 128009]);
  const usual = { topK: 50, minP: 0, repetitionPenalty: 1, presencePenalty: 0, frequencyPenalty: 0 };
  assert.deepEqual(samplingOf({ seed: 3 }, llama), { ...usual, temperature: 0.6, topP: 0.9, seed: 3 });
  assert.equal(samplingOf({ temperature: 0 }, llama).temperature, 0);
  assert.notEqual(samplingOf({}, llama).seed, samplingOf({}, llama).seed);

  const greedy = await configOf({ [NAME]: { temperature: 0.6, top_k: null, repetition_penalty: 1.1 } });
  assert.deepEqual(samplingOf({ seed: 0 }, greedy), {
    ...usual,
    temperature: 0,
    topP: 1,
    repetitionPenalty: 1.1,
    seed: 0,
  });
  assert.equal(samplingOf({ temperature: 1.5, topK: 0 }, greedy).temperature, 1.5);
});

Deno.test("end tokens are those of generation_config.json, or else of config.json", async () => {
  assert.deepEqual((await configOf({})).eosTokenIds, []);
  assert.deepEqual(
    (await configOf({ [NAME]: { eos_token_id: 2 }, "config.json": { eos_token_id: 5 } })).eosTokenIds,
    [
      2,
    ],
  );
  assert.deepEqual((await configOf({ [NAME]: {}, "config.json": { eos_token_id: [5, 6] } })).eosTokenIds, [
    5,
    6,
  ]);
});

Deno.test("what is wrong in generation_config.json, or in a call, is told at once", async () => {
  const wrong = { do_sample: "yes", temperature: -1, top_p: 1.5, top_k: 2.5, eos_token_id: [1, "</s>"] };
  const message = await refusal(configOf({ [NAME]: wrong }), 1);
  const lines = message.split("\n").map((line) => line.slice(line.indexOf(NAME)));
  assert.deepEqual(lines, [
    `${NAME}: do_sample: expected true or false, found "yes"`,
    `${NAME}: temperature: expected a number from 0 to 100, found -1`,
    `${NAME}: top_p: expected a number from 0 to 1, found 1.5`,
    `${NAME}: top_k: expected an integer, 0 or more, found 2.5`,
    `${NAME}: eos_token_id: expected a token's number, or a list of them, found [1, "</s>"]`,
  ]);
  assert.match(await refusal(configOf({ [NAME]: "{" }), 1), /generation_config\.json: not JSON: /);
  assert.match(await refusal(configOf({ [NAME]: "[]" }), 1), /expected an object of JSON, found \[\]/);

  const given = { topP: 2, seed: 1.5, temperature: "hot" as unknown as number };
  const call = Promise.resolve().then(() =>
    samplingOf(given, { doSample: false, sampling: {}, eosTokenIds: [] })
  );
  assert.deepEqual((await refusal(call)).split("\n"), [
    'temperature: expected a number from 0 to 100, found "hot"',
    "topP: expected a number from 0 to 1, found 2",
    "seed: expected an integer, 0 or more, found 1.5",
  ]);
});

Deno.test("keys of generation_config.json that are not followed are told, unless they change nothing", () =>
  withTemporaryFolder(async (folder) => {
    const said: string[] = [];
    const read = async (json: unknown) => {
      await Deno.writeTextFile(join(folder, NAME), JSON.stringify(json));
      return await readGenerationConfig(folder, (message) => said.push(message));
    };
    await read({
      num_beams: 1,
      no_repeat_ngram_size: 0,
      bad_words_ids: null,
      suppress_tokens: [],
      use_cache: true,
    });
    assert.deepEqual(said, []);
    assert.equal((await read({ max_new_tokens: 7, num_beams: 4, bad_words_ids: [[5]] })).maxNewTokens, 7);
    assert.equal(said.length, 1);
    assert.match(
      said[0],
      /not followed here, unlike in transformers: num_beams: 4, bad_words_ids: \[a list\]$/,
    );
    await assert.rejects(read({ max_new_tokens: 0 }), /max_new_tokens: expected .*found 0/);
  }));

Deno.test("how tokens are drawn is without effect where the most likely one is taken", () => {
  const given = { topP: 0.9, minP: 0.1, repetitionPenalty: 1.2 };
  assert.deepEqual(unusedKeys(given, { doSample: false }), ["top_p", "min_p"]);
  assert.deepEqual(unusedKeys({ ...given, temperature: 0 }, { doSample: true }), ["top_p", "min_p"]);
  assert.deepEqual(unusedKeys({ ...given, temperature: 0.7 }, { doSample: false }), []);
  assert.deepEqual(unusedKeys(given, { doSample: true }), []);
});
