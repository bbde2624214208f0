/** `simper eval` on golden models, beside PyTorch. */
import assert from "node:assert/strict";
import { cp } from "node:fs/promises";
import { join } from "node:path";
import type { Preferences } from "../../lib/evaluation/preferences.ts";
import type { TextFigures } from "../../lib/evaluation/text.ts";
import { task } from "../command.ts";
import { GOLDEN } from "../golden_run.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const MODEL = `${GOLDEN}/untied`;
const near = (found: number, expected: number, name: string) =>
  assert.ok(
    Math.abs(found - expected) <= 1e-4 * Math.max(1, Math.abs(expected)),
    `${name}: ${found}, ${expected}`,
  );
const readJson = async (path: string) => JSON.parse(await Deno.readTextFile(path));

Deno.test("figures over pairs are those of PyTorch's log-probabilities, and a model does not differ from itself", () =>
  withTemporaryFolder(async (folder) => {
    const golden: Record<"chosen" | "rejected", { logProbabilities: number[] }>[] = await readJson(
      `${GOLDEN}/logprobs.json`,
    );
    const rows = (await Deno.readTextFile(`${GOLDEN}/pairs.jsonl`)).split("\n").slice(0, golden.length);
    const data = join(folder, "data");
    await Deno.mkdir(data);
    await Deno.writeTextFile(join(data, "test.jsonl"), rows.join("\n"));
    const copy = join(folder, "<b>copy");
    await cp(MODEL, copy, { recursive: true });
    const output = join(folder, "out", "figures.json");
    const words = ["--max_length=96", "--max_prompt_length=48", "--per_device_eval_batch_size=2"];
    const { status, stdout, stderr } = await task(
      "eval",
      ...[MODEL, copy, `--dataset_mixer={${JSON.stringify(data)}: 1.0}`, `--output=${output}`, ...words],
    );
    assert.equal(status, 0, stderr);
    assert.match(stdout, /^3 pairs of test, with 95 % intervals$/m);
    assert.match(stdout, /rewards\/accuracies .* 0 \[0, 0\] +1 +McNemar, exact: 0 pairs gained, 0 lost/);
    const { preferences }: { preferences: Preferences } = await readJson(output);
    const mean = (of: (pair: typeof golden[number]) => number) =>
      golden.reduce((sum, pair) => sum + of(pair), 0) / golden.length;
    const sum = (pair: typeof golden[number], of: "chosen" | "rejected") =>
      pair[of].logProbabilities.reduce((sum, value) => sum + value, 0);
    const reward = (pair: typeof golden[number], of: "chosen" | "rejected") =>
      sum(pair, of) / pair[of].logProbabilities.length;
    const expected: Record<string, number> = {
      "rewards/accuracies": mean((pair) => Number(reward(pair, "chosen") > reward(pair, "rejected"))),
      "rewards/margins": mean((pair) => reward(pair, "chosen") - reward(pair, "rejected")),
    };
    for (const side of ["chosen", "rejected"] as const) {
      expected[`rewards/${side}`] = mean((pair) => reward(pair, side));
      expected[`inverse_perplexities/${side}`] = mean((pair) => Math.exp(reward(pair, side)));
      expected[`logps/${side}`] = mean((pair) => sum(pair, side));
      expected[`lengths/${side}`] = mean((pair) => pair[side].logProbabilities.length);
    }
    for (const { figures } of preferences.models) {
      for (const [name, value] of Object.entries(expected)) near(figures[name].value, value, name);
      assert.ok(figures.entropy.low > 0 && figures["eos/probability"].high < 1);
    }
    const [{ accuracy, margins }] = preferences.differences;
    assert.deepEqual([accuracy?.value, accuracy?.p, margins?.value, margins?.p], [0, 1, 0, 1]);
    const html = await Deno.readTextFile(join(folder, "out", "figures.html"));
    assert.ok(html.includes("inverse_perplexities/chosen") && !html.includes("<b>copy"));
  }));

Deno.test("judged responses are measured by their labels, and margins are those of the two means", () =>
  withTemporaryFolder(async (folder) => {
    const golden: Record<"chosen" | "rejected", { logProbabilities: number[] }>[] = await readJson(
      `${GOLDEN}/logprobs.json`,
    );
    const pairs = (await Deno.readTextFile(`${GOLDEN}/pairs.jsonl`)).split("\n").slice(0, golden.length);
    // One undesirable response less: the two means are of other numbers.
    // The last pair stays one.
    const rows = pairs.map((line) => JSON.parse(line)).flatMap(({ chosen, rejected }, i): object[] =>
      i === pairs.length - 1 ? [{ chosen, rejected }] : [
        { prompt: chosen.slice(0, -1), completion: chosen.slice(-1), label: true },
        ...i > 0 ? [{ prompt: rejected.slice(0, -1), completion: rejected.slice(-1), label: false }] : [],
      ]
    );
    const data = join(folder, "data");
    await Deno.mkdir(data);
    await Deno.writeTextFile(join(data, "test.jsonl"), rows.map((row) => JSON.stringify(row)).join("\n"));
    const output = join(folder, "figures.json");
    const { status, stdout, stderr } = await task(
      "eval",
      ...[MODEL, MODEL, `--dataset_mixer={${JSON.stringify(data)}: 1.0}`, `--output=${output}`],
      ...["--max_length=96", "--max_prompt_length=48", "--per_device_eval_batch_size=2"],
    );
    assert.equal(status, 0, stderr);
    assert.match(stderr, /rows that are pairs, and not responses with a label: 1; each counts as two/);
    assert.match(stdout, /^5 responses of test, 3 of them desirable \(chosen\), with 95 % intervals$/m);
    assert.doesNotMatch(stdout, /accuracies/);
    const { preferences }: { preferences: Preferences } = await readJson(output);
    assert.deepEqual(preferences.judged, { desirable: 3, undesirable: 2 });
    const { models: [{ figures }], differences: [{ accuracy, margins }] } = preferences;
    const sums = (of: "chosen" | "rejected") => golden.map((pair) => pair[of].logProbabilities);
    const mean = (values: number[]) => values.reduce((sum, value) => sum + value, 0) / values.length;
    const chosen = sums("chosen").map(mean);
    const rejected = sums("rejected").slice(1).map(mean);
    near(figures["rewards/chosen"].value, mean(chosen), "rewards/chosen");
    near(figures["rewards/rejected"].value, mean(rejected), "rewards/rejected");
    near(figures["rewards/margins"].value, mean(chosen) - mean(rejected), "rewards/margins");
    near(
      figures["lengths/rejected"].value,
      mean(sums("rejected").slice(1).map((own) => own.length)),
      "lengths",
    );
    assert.ok(figures["rewards/margins"].low < figures["rewards/margins"].high);
    assert.deepEqual([accuracy, margins?.value, margins?.p], [undefined, 0, 1]);
  }));

Deno.test("perplexity of a text is that of transformers' loop, over tokens, words and bytes", () =>
  withTemporaryFolder(async (folder) => {
    const golden: { text: string; words: number; bytes: number; runs: Record<string, number>[] } =
      await readJson(
        "tests/golden/evaluation/perplexity.json",
      );
    const text = join(folder, "text.txt");
    await Deno.writeTextFile(text, golden.text);
    for (const { max_length, stride, tokens, logp, perplexity } of golden.runs) {
      const output = join(folder, "figures.json");
      const { status, stderr } = await task(
        "eval",
        ...[MODEL, `--text=${text}`, `--output=${output}`, `--stride=${stride}`],
        ...[`--max_length=${max_length}`, "--max_prompt_length=8", "--per_device_eval_batch_size=1"],
      );
      assert.equal(status, 0, stderr);
      const { text: { models: [{ figures }] } }: { text: { models: { figures: TextFigures }[] } } =
        await readJson(output);
      assert.deepEqual([figures.tokens, figures.words, figures.bytes], [tokens, golden.words, golden.bytes]);
      near(figures.logp, logp, "logp");
      near(figures.perplexity, perplexity, "perplexity");
      if (stride === max_length) {
        // What the first token of a window says is in the words, and not in the sum.
        assert.equal(figures.word_perplexity ?? figures.bits_per_byte ?? figures.byte_perplexity, undefined);
        continue;
      }
      near(figures.word_perplexity!, Math.exp(-logp / golden.words), "word_perplexity");
      near(figures.bits_per_byte!, -logp / golden.bytes / Math.LN2, "bits_per_byte");
    }
  }));

Deno.test("what eval cannot do is told before anything is loaded", async () => {
  const cases: [string[], RegExp, number?][] = [
    [[], /expected: simper eval \[CONFIG\] MODEL/],
    [[MODEL], /expected --dataset_mixer=.*--text=FILE/],
    [[MODEL, "--text=nowhere.txt"], /nowhere\.txt: the text cannot be read/],
    [[MODEL, "--text=deno.json", "--stride=513"], /--stride: expected .* 512, found "513"/],
    [[MODEL, "--text=deno.json", "--output=deno.json/x.json"], /deno\.json: cannot be written to: /, 1],
    [
      [MODEL, "--text=deno.json", "--output=x.txt"],
      /--output: expected a name that ends in \.json, found x\.txt/,
    ],
    [[MODEL, "--txt=deno.json", "--max_length=x"], /--txt: unknown key: did you mean text\?/],
    [["a.yaml", "b.yaml"], /expected one run file, found a\.yaml and b\.yaml/],
    [[MODEL, "--annotations=x.json"], /--annotations: expected nothing else to measure/],
    [[MODEL, "nowhere/model", "--text=deno.json"], /nowhere\/model/, 1],
  ];
  for (const [words, says, expected = 2] of cases) {
    const { status, stdout, stderr } = await task("eval", ...words);
    assert.match(stderr, says);
    assert.deepEqual([status, stdout], [expected, ""], stderr);
  }
});
