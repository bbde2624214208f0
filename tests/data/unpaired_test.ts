/** Unpaired data: single judged responses, and pairs that become such, as TRL has them. */
import assert from "node:assert/strict";
import { readFile, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { memoryRows } from "../../lib/data/memory.ts";
import type { Pair, Sequence } from "../../lib/data/pair.ts";
import { openPairs, type PairOptions } from "../../lib/data/pairs.ts";
import type { PairStatistics } from "../../lib/data/store.ts";
import { judgedRows } from "../../lib/data/unpaired.ts";
import { loadTokenizer } from "../../lib/tokenizer/tokenizer.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const GOLDEN = new URL("../golden/", import.meta.url).pathname;
const golden = async (name: string) => JSON.parse(await readFile(join(GOLDEN, "unpaired", name), "utf8"));
const tokenizer = await loadTokenizer(join(GOLDEN, "data/tokenizer"));

interface Example {
  ids: number[];
  labels: number;
  kl_ids: number[];
  kl_labels: number;
  label: boolean;
}

/** The examples of rows, `perBatch` to a micro-batch. */
async function examplesOf(
  rows: Record<string, unknown>[],
  perBatch: number,
  changes: Partial<PairOptions> = {},
): Promise<{ pairs: Pair[]; statistics: PairStatistics; id: string }> {
  return await withTemporaryFolder(async (cache) => {
    const path = join(cache, "train.jsonl");
    await writeFile(path, rows.map((row) => JSON.stringify(row)).join("\n"));
    const store = await openPairs({
      mixer: [{ path, share: 1 }],
      split: "train",
      tokenizer,
      vocabSize: 415,
      autoInsertEmptySystemMsg: false,
      labelGenerationPrompt: false,
      usesRejected: false,
      judgedPerBatch: perBatch,
      maxLength: 64,
      maxPromptLength: 32,
      truncationMode: "keep_start",
      cache,
      ...changes,
    });
    const pairs = await store.read(Array.from({ length: store.length }, (_, i) => i));
    await store.close();
    return { pairs, statistics: store.statistics, id: store.id };
  });
}

/** A sequence as TRL has it: no BOS that the tokenizer itself does not put, and after a template's end no EOS. */
const asInTrl = ({ ids, promptLength }: Sequence, expected: readonly number[]) => {
  const own = ids[0] === tokenizer.bosTokenId ? ids.slice(1) : ids;
  const hasEnd = own.length === expected.length + 1 && own.at(-1) === tokenizer.eosTokenId;
  const found = hasEnd ? own.slice(0, -1) : own;
  return { ids: found, labels: found.length - (promptLength - (ids.length - own.length)) };
};

Deno.test("judged responses have TRL's tokens, and in each micro-batch TRL's other responses for the KL estimate", async () => {
  const { sets } = await golden("judged.json");
  for (const { rows, batch, max_length, examples } of sets) {
    // There is a BOS beside TRL's.
    const { pairs, statistics } = await examplesOf(rows, batch, { maxLength: max_length + 1 });
    const found = pairs.map(({ chosen, rejected, desirable }, i): Example => {
      const [own, kl] = [asInTrl(chosen, examples[i].ids), asInTrl(rejected!, examples[i].kl_ids)];
      return { ids: own.ids, labels: own.labels, kl_ids: kl.ids, kl_labels: kl.labels, label: desirable! };
    });
    assert.deepEqual(found, examples);
    assert.deepEqual(statistics.judged, { desirable: 3, undesirable: 2 });
    assert.equal(statistics.responses, 5, "another row's response counts once");
  }
});

Deno.test("pairs are parted in TRL's order: of each 1,000 all chosen responses, then all rejected ones", async () => {
  const { rows, order } = await golden("pairs.json");
  const pairs = Array.from(
    { length: rows },
    (_, i) => ({ prompt: `${i}?`, chosen: ` ${i} is good`, rejected: ` ${i} is bad` }),
  );
  const read = (await memoryRows(pairs, "data")).read();
  const found = await Array.fromAsync(judgedRows(read, true));
  assert.deepEqual(
    found.map(({ row, desirable }) => (Number(String(row.prompt).slice(0, -1)) + 1) * (desirable ? 1 : -1)),
    order,
  );
  const last = found.at(-1)!;
  assert.deepEqual([last.row.chosen, last.desirable, last.where], [" 1002 is bad", false, "data:row 1002"]);
});

Deno.test("rows of pairs in any shape become responses of their own after the prompt that they share", async () => {
  const user = { role: "user", content: "Hot?" };
  const [yes, no] = ["Yes.", "No."].map((content) => ({ role: "assistant", content }));
  const shapes = [
    { chosen: [user, yes], rejected: [user, no] },
    { prompt: [user], chosen: [yes], rejected: [no] },
    { prompt: "Hot?", chosen: [yes], rejected: [no] },
    { instruction: "Hot?", output: ["Yes.", "No."] },
    { chosen: "\n\nHuman: Hot?\n\nAssistant: Yes.", rejected: "\n\nHuman: Hot?\n\nAssistant: No." },
  ];
  const single = (await examplesOf([
    { prompt: [user], completion: [yes], label: true },
    { messages: [user, no], label: false },
  ], 2)).pairs;
  for (const shape of shapes) {
    const { pairs } = await examplesOf([shape], 2);
    const bare = (all: Pair[]) => all.map(({ chosen, rejected, desirable }) => [chosen, rejected, desirable]);
    assert.deepEqual(bare(pairs), bare(single), JSON.stringify(shape));
  }
});

Deno.test("a row without a judgement is refused by its place, with what stands there", async () => {
  const good = { prompt: "Hot?", completion: " Yes.", label: true };
  const cases: [Record<string, unknown>, RegExp][] = [
    [
      { prompt: "Hot?", completion: " Yes." },
      /train\.jsonl:2: label: expected true or false, .*found none: a row has prompt, completion/,
    ],
    [{ prompt: "Hot?", completion: " Yes.", label: "good" }, /train\.jsonl:2: label: .*found "good"/],
    [{ prompt: "Hot?", completion: " Yes.", label: 1 }, /train\.jsonl:2: label: .*found 1:/],
    [{ prompt: "Hot?", completion: " Yes.", label: null }, /train\.jsonl:2: label: .*found null:/],
    [{ prompt: "Hot?", label: true }, /train\.jsonl:2: expected a key "completion", found "prompt", "label"/],
    [
      { prompt: "Hot?", chosen: " Yes.", rejected: [] },
      /train\.jsonl:2: rejected: expected text, as chosen is/,
    ],
    [
      { prompt: "Hot?", rejected: " No." },
      /train\.jsonl:2: expected a key "chosen", found "prompt", "rejected"/,
    ],
  ];
  for (const [row, message] of cases) {
    await assert.rejects(examplesOf([good, row], 2), { name: "UserError", message });
  }
});

Deno.test("a loss that reads pairs says that judged responses are kto's", async () => {
  const row = { prompt: "Hot?", completion: " Yes.", label: true };
  await assert.rejects(examplesOf([row], 2, { usesRejected: true, judgedPerBatch: undefined }), {
    name: "UserError",
    message: /single judged responses, without pairs \(KTO\).*or train with loss_type: kto/,
  });
});

Deno.test("another size of micro-batch is other pairs in the cache", async () => {
  const rows = [{ prompt: "Hot?", completion: " Yes.", label: true }];
  const [two, three] = [await examplesOf(rows, 2), await examplesOf(rows, 3)];
  assert.notEqual(two.id, three.id);
});
