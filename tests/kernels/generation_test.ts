import assert from "node:assert/strict";
import { choiceWords, type PassLabel } from "../../lib/generation/pass.ts";
import { GREEDY, MOST_TOP } from "../../lib/generation/request.ts";
import { keepKeys } from "../../lib/gpu/attention_operations.ts";
import { CHOICE_WORDS, choose, draw, RESULT_WORDS } from "../../lib/gpu/choice_operations.ts";
import type { LogitOptions } from "../../lib/gpu/operations.ts";
import { onlyTile, rowTiles } from "../../lib/gpu/tuning.ts";
import { readTensor } from "../../lib/gpu/program.ts";
import { matrix, multiply, transposed } from "../reference/matrix.ts";
import * as reference from "../reference/sampling.ts";
import { type KernelCase, kernelTest, useGpu } from "./harness.ts";

useGpu();

const IN_PROMPT = 0x80000000;

/** Runs both kernels on rows of logits, and gives the words of each label's result. */
async function chosen(
  kernels: KernelCase,
  rows: readonly Float32Array[],
  labels: readonly Partial<PassLabel>[],
  { seen = [], ...options }: LogitOptions & { seen?: readonly (readonly reference.Seen[])[] } = {},
) {
  const vocabulary = rows[0].length;
  const stride = Math.ceil(vocabulary / 4) * 4;
  // What stands behind a row's end is larger than all of it, and does not count.
  const padded = new Float32Array(rows.length * stride).fill(1e6);
  rows.forEach((row, i) => padded.set(row, i * stride));
  const words = choiceWords(
    labels.map((label, i) => ({ row: i, sampling: GREEDY, place: 0, top: 0, result: i, ...label })),
  );
  const marks = seen.flatMap((row) =>
    Array.from(
      { length: vocabulary },
      (_, token) => ((row[token]?.inPrompt ? IN_PROMPT : 0) | (row[token]?.count ?? 0)) >>> 0,
    )
  );
  const t = {
    logits: kernels.tensor([rows.length, stride], padded),
    choices: kernels.tensor([rows.length, CHOICE_WORDS], words),
    labelRows: kernels.tensor([rows.length], Uint32Array.from(rows, (_, i) => rows.length - 1 - i)),
    seen: kernels.tensor(
      [Math.max(1, seen.length), vocabulary],
      Uint32Array.from(marks.length ? marks : [0]),
    ),
    drawn: kernels.tensor([rows.length]),
    ids: kernels.tensor([rows.length]),
    threads: 64 as const,
    results: kernels.tensor([rows.length, RESULT_WORDS]),
  };
  const count = kernels.rows(rows.length);
  const draws = labels.some(({ sampling }) => sampling) ? [draw(count, t, vocabulary, options)] : [];
  await kernels.run([...draws, choose(count, t, vocabulary, options)]);
  const results = new Uint32Array(await readTensor(kernels.gpu, t.results));
  const ids = new Uint32Array(await readTensor(kernels.gpu, t.ids));
  const after = new Uint32Array(await readTensor(kernels.gpu, t.seen));
  return {
    seen: (row: number, token: number) => after[row * vocabulary + token],
    results: rows.map((_, i) => {
      const found = results.slice(i * RESULT_WORDS, (i + 1) * RESULT_WORDS);
      const floats = new Float32Array(found.buffer);
      assert.equal(ids[rows.length - 1 - i], found[0], "the next pass begins with it");
      return {
        id: found[0],
        logProbability: floats[1],
        top: Array.from({ length: labels[i].top ?? 0 }, (_, n) => [found[2 + 2 * n], floats[3 + 2 * n]]),
      };
    }),
  };
}

for (const vocabulary of [1, 3, 1030]) {
  kernelTest(
    `the likeliest of ${vocabulary} tokens come in order, of equals the first one first`,
    [{}],
    async (kernels) => {
      const options = { logitScale: 0.5, logitSoftcap: 30 };
      const rows = [0, 1, 2].map(() => kernels.values(vocabulary, 3));
      // Three are equal, where none else is as large.
      for (const token of [1029, 517, 518]) if (token < vocabulary) rows[0][token] = 40;
      const top = Math.min(vocabulary, MOST_TOP);
      const labels = [{ top }, { top: 1, target: vocabulary - 1 }, { top: 0 }];
      const { results } = await chosen(kernels, rows, labels, options);
      for (const [i, row] of rows.entries()) {
        const scores = [...row].map((logit) => 30 * Math.tanh(logit * 0.5 / 30));
        const order = scores.map((_, token) => token).sort((a, b) => scores[b] - scores[a] || a - b);
        const largest = scores[order[0]];
        const lse = largest + Math.log(scores.reduce((sum, score) => sum + Math.exp(score - largest), 0));
        const found = results[i];
        assert.equal(found.id, labels[i].target ?? order[0]);
        for (const [n, [id, logProbability]] of [[found.id, found.logProbability], ...found.top].entries()) {
          if (n > 0) assert.equal(id, order[n - 1]);
          assert.ok(Math.abs(logProbability - (scores[id] - lse)) < 1e-5, `${id}: ${logProbability}`);
          if (id === found.id) assert.equal(logProbability, found.logProbability, "the same bits");
        }
      }
    },
  );
}

kernelTest("tokens are drawn as the reference draws them", [{}], async (kernels) => {
  const vocabulary = 1030;
  const samplings = [
    { temperature: 1 },
    { temperature: 0.7, topK: 40 },
    { temperature: 1.5, topP: 0.8 },
    { temperature: 1, minP: 0.05 },
    { temperature: 0.9, topK: 200, topP: 0.9, minP: 0.01 },
    { temperature: 0.3, topK: 1 },
    { temperature: 2, topK: vocabulary, topP: 1e-9 },
    { temperature: 0, repetitionPenalty: 1.7 },
    { temperature: 1, repetitionPenalty: 1.3, presencePenalty: 0.5, frequencyPenalty: 0.25 },
    { temperature: 0, presencePenalty: -4 },
  ];
  const labels = samplings.flatMap((sampling, i) =>
    Array.from({ length: 12 }, (_, n) => ({
      sampling: { ...GREEDY, ...sampling, seed: 2 ** 40 + n },
      place: n * n,
      ...(i >= 7 ? { seen: 12 * (i - 7) + n } : {}),
    }))
  );
  const rows = labels.map(() => kernels.values(vocabulary, 2));
  const seen = labels.flatMap((label) =>
    label.seen === undefined ? [] : [Array.from({ length: vocabulary }, () => ({
      inPrompt: kernels.uniform() < 0.3,
      count: kernels.uniform() < 0.8 ? 0 : kernels.integer(1, 3),
    }))]
  );
  const { results, seen: after } = await chosen(kernels, rows, labels, { seen });
  for (const [i, { id, logProbability }] of results.entries()) {
    const { sampling, place, seen: row } = labels[i];
    const logits = [...rows[i]];
    const marks = row === undefined ? undefined : seen[row];
    assert.equal(id, reference.draw(logits, sampling, place, marks), JSON.stringify(labels[i]));
    // What is told of it is by the logits as they are.
    const lse = Math.log(logits.reduce((sum, logit) => sum + Math.exp(logit), 0));
    assert.ok(Math.abs(logProbability - (logits[id] - lse)) < 1e-5);
    if (marks) assert.equal(after(row!, id) & ~IN_PROMPT, marks[id].count + 1);
  }
});

for (const given of [{ temperature: 1.3 }, { temperature: 0.8, topP: 0.9, topK: 30 }]) {
  kernelTest(
    `of 10,000 draws each token has its share, by ${JSON.stringify(given)}`,
    [{}],
    async (kernels) => {
      const logits = kernels.values(40, 1.5);
      const sampling = { ...GREEDY, ...given };
      const times = 10_000;
      const labels = Array.from({ length: times }, (_, i) => ({
        sampling: { ...sampling, seed: i % 100 },
        place: Math.floor(i / 100),
      }));
      const counts = new Map<number, number>();
      const { results } = await chosen(kernels, labels.map(() => logits), labels);
      for (const { id } of results) counts.set(id, (counts.get(id) ?? 0) + 1);
      const { tokens, probabilities } = reference.kept([...logits], sampling);
      assert.ok([...counts.keys()].every((id) => tokens.includes(id)));
      const chiSquare = probabilities.reduce((sum, probability, i) => {
        const expected = probability * times;
        return sum + ((counts.get(tokens[i]) ?? 0) - expected) ** 2 / expected;
      }, 0);
      const freedom = tokens.length - 1;
      assert.ok(chiSquare < freedom + 4 * Math.sqrt(2 * freedom), `${chiSquare} of ${freedom}`);
    },
  );
}

for (const [first, columns, stride] of [[8, 4, 12], [3, 6, 9]]) {
  kernelTest(
    `keys go to the rows that their tokens see last, ${columns} of ${stride} columns`,
    [{}],
    async (kernels) => {
      const qkv = kernels.values(2 * stride);
      const before = kernels.values(6 * columns);
      const cache = kernels.tensorInPlace([6, columns], before);
      const tensor = kernels.tensor([2, stride], qkv);
      const spans = kernels.tensor([2, 4], Uint32Array.of(3, 5, 0, 1, 0, 2, 0, 1));
      await kernels.run([keepKeys(kernels.rows(2), spans, { tensor, first }, cache)]);
      const expected = before.slice();
      for (const [row, at] of [4, 1].entries()) {
        expected.set(qkv.slice(row * stride + first, row * stride + first + columns), at * columns);
      }
      const found = new Float32Array(await readTensor(kernels.gpu, cache));
      assert.deepEqual(found.slice(0, expected.length), expected);
    },
  );
}

for (const [device, storage] of [["software", "f32"], ["software", "bf16"], ["gpu", "f32"]] as const) {
  for (const [most, rows, n, k] of [[1, 1, 67, 72], [16, 5, 72, 320], [3, 2, 64, 128]]) {
    kernelTest(
      `product of ${rows} of ${most} rows of ${n} by ${k}, as steps of ${device} compute it, of ${storage}`,
      [{}],
      async (kernels) => {
        const [x, w, bias] = [kernels.values(rows * k), kernels.values(n * k), kernels.values(n)];
        // What is bfloat16 anyway.
        if (storage === "bf16") new Uint16Array(w.buffer).forEach((_, i, half) => i % 2 || (half[i] = 0));
        const t = {
          a: kernels.tensor([most, k], x),
          b: kernels.tensor([n, k], w),
          c: kernels.tensor([most, Math.ceil(n / 4) * 4]),
          bias: kernels.tensor([n, 1], bias),
        };
        const tiles = rowTiles(device, most, { storage });
        const tile = tiles.buffer["nt wide"];
        // Of many rows, with fewer threads: a driver on the processor takes 8 s to compile it for 64.
        const isSlow = tile.memory === "row" && most > 1;
        const products = kernels.products(isSlow ? onlyTile({ ...tile, lanes: 16 }) : tiles);
        const calls = products.calls("nt", kernels.rows(rows), t, { scale: 0.5 });
        await kernels.run([...products.held?.calls ?? [], ...calls]);
        const product = multiply(matrix(x, rows, k, k), transposed(matrix(w, n, k, k)));
        const expected = product.map((value, i) => 0.5 * (value + bias[i % n]));
        await kernels.compare(t.c, expected, { tolerance: 3e-6, columns: n, stride: t.c.shape[1] });
      },
    );
  }
}
