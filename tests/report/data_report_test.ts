import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { stripVTControlCharacters } from "node:util";
import { describePair, reportBalance, reportSplit, tokenTexts } from "../../lib/report/data_report.ts";
import { loadTokenizer } from "../../lib/tokenizer/tokenizer.ts";
import { task } from "../command.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const GOLDEN = new URL("../golden/data/", import.meta.url).pathname;
const tokenizer = await loadTokenizer(join(GOLDEN, "tokenizer"));
const textsOf = (lists: number[][]) => Promise.resolve(lists.map((ids) => tokenizer.decode(ids)));

Deno.test("texts of tokens join to the text, with control characters written out", async () => {
  const text = "Bonjour 👨‍👩‍👧 日本\tx\x1b[31m\r\ny\u202e";
  const texts = await tokenTexts(tokenizer.encode(text), 0, textsOf);
  assert.equal(texts.join(""), "Bonjour 👨‍👩‍👧 日本\\x09x\\x1b[31m\\x0d↵\ny\\u202e");
  assert.ok(texts.length > 20 && texts.every((token) => !token.includes("\ufffd")));
  const ids = tokenizer.encode("one two");
  assert.equal((await tokenTexts(ids, 2, textsOf)).join(""), tokenizer.decode(ids.slice(2)));
});

Deno.test("a pair is shown with its labelled tokens in brackets, or in colours", async () => {
  const [prompt, chosen, rejected] = ["ab", "cd", "e"].map((text) => tokenizer.encode(text));
  const pair = {
    chosen: { ids: [...prompt, ...chosen], promptLength: prompt.length },
    rejected: { ids: [...prompt, ...rejected], promptLength: prompt.length },
    truncated: false as const,
    where: "a.jsonl:1",
  };
  const n = prompt.length;
  const plain =
    `shared prompt, ${n} tokens\nab\nchosen, 2 labelled tokens\n[c][d]\nrejected, 1 labelled tokens\n[e]`;
  assert.equal(await describePair(pair, n, textsOf, false), plain);
  const colored = await describePair(pair, n, textsOf, true);
  assert.equal(stripVTControlCharacters(colored), plain.replaceAll(/[[\]]/g, ""));
  assert.ok(colored.includes("\x1b[32mc\x1b[39m") && colored.includes("\x1b[31me\x1b[39m"));
  // The last token of the prompt may differ: then it is not shared, and carries no label.
  const merged = {
    ...pair,
    rejected: { ids: [...prompt.slice(0, -1), ...rejected, ...rejected], promptLength: n },
  };
  assert.match(
    await describePair(merged, n - 1, textsOf, false),
    /\na\nchosen.*\nb\[c\]\[d\]\nrejected.*\ne\[e\]$/s,
  );
});

Deno.test("the data task shows splits, lengths, what was cut and why, and pairs", () =>
  withTemporaryFolder(async (folder) => {
    const run = join(folder, "run.yaml");
    await writeFile(
      run,
      `model_name_or_path: ${GOLDEN}../llama/untied\ndataset_mixer: { ${GOLDEN}rows.jsonl: 0.6 }\n` +
        "max_length: 128\nmax_prompt_length: 64\n",
    );
    const { status, stdout, stderr } = await task("data", run);
    assert.deepEqual([status, stderr], [0, ""]);
    for (
      const part of [
        "== train ==",
        "rows.jsonl: the first 16 of 27 rows (share 0.6)",
        "16 pairs, ",
        "dropped: none",
        "longer than max_length (128): 4, whose prompts keep their last 64 tokens",
        "still longer then: 2, whose responses keep their first 64 tokens",
        "2 of 16 rows: an empty response: trained on as ",
        "rows.jsonl:8: rejected\n",
        "-- pair 1 of 16, ",
        "What is the tallest tree?<|im_end|>↵\n",
        "[D][u][n][n][o][.][<|im_end|>]",
        "-- pair 4 of 16, ",
        "prompt cut --",
      ]
    ) assert.ok(stdout.includes(part), `${part}\n${stdout}`);
    assert.match(stdout, /longest +\d+ +64 +64\n/);
    const missing = await task(
      "data",
      run,
      "--dataset_splits=[train_prefs]",
      `--dataset_mixer.${GOLDEN}tokenizer=1`,
    );
    assert.equal(missing.status, 1);
    assert.match(
      missing.stderr,
      /^error: dataset_mixer: .*tokenizer: expected the split "train_prefs", found /,
    );
  }));

Deno.test("judged responses are shown and counted as such, and a balance that their weights do not keep is told, in TRL's ranges", async () => {
  const [prompt, own, other] = ["ab", "cd", "e"].map((text) => tokenizer.encode(text));
  const pair = {
    chosen: { ids: [...prompt, ...own], promptLength: prompt.length },
    rejected: { ids: [...prompt, ...other], promptLength: prompt.length },
    desirable: false,
    truncated: false as const,
    where: "a.jsonl:1",
  };
  assert.equal(
    await describePair(pair, prompt.length, textsOf, false),
    `shared prompt, ${prompt.length} tokens\nab\nundesirable, 2 labelled tokens\n[c][d]\n` +
      "another's response, for the KL estimate alone, 1 labelled tokens\n[e]",
  );
  const statistics = { rows: 5, truncated: 0, truncatedResponses: 0, notices: [], tokens: 9, longest: 3 };
  const of = ([desirable, undesirable]: number[]) => ({
    ...{ ...statistics, responses: 5, endedResponses: 5 },
    judged: { desirable, undesirable },
  });
  const lines: string[] = [];
  reportSplit("train", of([3, 2]), (_, line) => lines.push(line));
  assert.match(lines[0], /^train: 5 responses, 3 of them desirable and 2 undesirable, 9 tokens/);
  const { balances } = JSON.parse(await readFile(join(GOLDEN, "../unpaired/judged.json"), "utf8"));
  for (const { judged, weights: [desirableWeight, undesirableWeight], ranges } of balances) {
    const told: string[] = [];
    reportBalance(of(judged), { desirableWeight, undesirableWeight }, (_, line) => told.push(line));
    // TRL tells weights of one class alone too, which nothing balances.
    if (judged.includes(0)) {
      assert.deepEqual(told, [
        `no response is ${judged[0] === 0 ? "desirable" : "undesirable"}: KTO needs both`,
      ]);
      continue;
    }
    const found = told.flatMap((line) =>
      [...line.matchAll(/from ([\d.]+) to ([\d.]+),/g)].flatMap((m) => m.slice(1))
    );
    assert.deepEqual(found.map(Number), ranges, told[0]);
  }
});
