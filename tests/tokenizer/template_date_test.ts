/** Templates that ask for the date: one date a run, in the name of its cache and in its checkpoints. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { readDate } from "../../lib/text/calendar_date.ts";
import { parseConfig } from "../../lib/config/parse.ts";
import { openPairs } from "../../lib/data/pairs.ts";
import { TokenizerPool } from "../../lib/data/pool.ts";
import { templateDate } from "../../lib/tokenizer/template_date.ts";
import { loadTokenizer } from "../../lib/tokenizer/tokenizer.ts";
import { task } from "../command.ts";
import { GOLDEN } from "../golden_run.ts";
import { ls, refusal, run, stopAt, weightsOf } from "../in_process.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const FOLDER = "tests/golden/data/tokenizer";
const ROWS = "tests/golden/data/rows.jsonl";
const NOON = new Date(2026, 10, 28, 12, 30, 5);
const chatml = (format: string) =>
  `{{ 'Today ' + strftime_now('${format}') + '\n' }}{% for m in messages %}` +
  "{{ '<|im_start|>' + m.role + '\n' + m.content + '<|im_end|>\n' }}{% endfor %}";

Deno.test("a template is told the day, or the second where its formats ask for more or are not written out", () => {
  const told = (template: string) => templateDate(template, NOON)?.text;
  for (
    const template of [
      "{{ strftime_now('%d %b %Y') }}",
      '{% if strftime_now is defined %}{{ strftime_now( "%-d %B %y, 100%%" ) }}{% endif %}',
      "{{ strftime_now('%A') }}{{ strftime_now('%F|%j|%e') }}",
    ]
  ) assert.equal(told(template), "2026-11-28", template);
  for (
    const template of [
      "{{ strftime_now('%d %b %Y') }}{{ strftime_now('%H') }}",
      "{{ strftime_now('%c') }}",
      "{{ strftime_now(format) }}",
      "{% set now = strftime_now %}{{ now('%d') }}",
      "{{ strftime_now('%d' + more) }}",
    ]
  ) assert.equal(told(template), "2026-11-28T12:30:05", template);
  for (const template of [undefined, "{{ messages[0].content }}", "{{ strftime }}"]) {
    assert.equal(templateDate(template, NOON), undefined);
  }
  assert.deepEqual(templateDate("{{ strftime_now('%H') }}", NOON)!.date, NOON);
  assert.deepEqual(readDate("2026-11-28T12:30:05"), NOON);
});

Deno.test("chat_template_date is a day of the calendar, and anything else is an error of the run file", () => {
  const text = "model_name_or_path: m\ndataset_mixer: { d: 1 }\nchat_template_date: ";
  assert.equal(parseConfig(`${text}2024-07-26`, "a.yaml").config.chatTemplateDate, "2024-07-26");
  assert.equal(parseConfig(`${text}2024-02-29`, "a.yaml").config.chatTemplateDate, "2024-02-29");
  for (
    const wrong of [
      "2023-02-29",
      "2024-13-01",
      "26.07.2024",
      "2024-7-26",
      "20240726",
      "2024-07-26T10:00:00",
      "yes",
    ]
  ) {
    assert.throws(() => parseConfig(text + wrong, "a.yaml"), {
      name: "UserError",
      status: 2,
      message: /^a\.yaml:3:21: chat_template_date: expected a date such as 2024-07-26, found /,
    }, wrong);
  }
});

Deno.test("pairs of another day, or second where the template shows it, are other files of the cache", () =>
  withTemporaryFolder(async (cache) => {
    const open = async (format: string, date: Date, isPool = false) => {
      const options = { chatTemplate: chatml(format), date };
      const tokenizer = isPool
        ? await TokenizerPool.open(FOLDER, options)
        : await loadTokenizer(FOLDER, options);
      const lengths = { maxLength: 512, maxPromptLength: 256, truncationMode: "keep_end" as const };
      const rules = { ...lengths, vocabSize: 512, usesRejected: true, autoInsertEmptySystemMsg: false };
      const store = await openPairs({
        ...rules,
        mixer: [{ path: ROWS, share: 1 }],
        split: "train",
        tokenizer,
        cache,
      });
      const [{ chosen }] = await store.read([0]);
      await store.close();
      if (tokenizer instanceof TokenizerPool) tokenizer.close();
      const { decode } = await loadTokenizer(FOLDER);
      return { today: decode(chosen.ids).match(/Today (.*)/)![1], files: ls(join(cache, "pairs")).length };
    };
    const later = new Date(2026, 10, 28, 12, 30, 6);
    const next = new Date(2026, 10, 29);
    assert.deepEqual(await open("%d %b %Y", NOON), { today: "28 Nov 2026", files: 1 });
    assert.deepEqual(await open("%d %b %Y", later), { today: "28 Nov 2026", files: 1 });
    assert.deepEqual(await open("%d %b %Y", later, true), { today: "28 Nov 2026", files: 1 });
    assert.deepEqual(await open("%d %b %Y", next), { today: "29 Nov 2026", files: 2 });
    assert.deepEqual(await open("%d, %S", NOON), { today: "28, 05", files: 3 });
    assert.deepEqual(await open("%d, %S", later, true), { today: "28, 06", files: 4 });
    assert.deepEqual(await open("%d, %S", NOON, true), { today: "28, 05", files: 4 });
  }));

Deno.test("a resumed run goes on with the date that it began with, and is refused another", () =>
  withTemporaryFolder(async (folder) => {
    const template = `--chat_template=${chatml("%d %b %Y")}`;
    const first = "--chat_template_date=2024-07-26";
    const [whole, out] = ["whole", "out"].map((name) => join(folder, name));
    await run(whole, [template, first, "--max_steps=2"]);
    await stopAt(1, out, [template, first, "--max_steps=2"]);
    const state = JSON.parse(await Deno.readTextFile(join(out, "checkpoint-1", "run_state.json")));
    assert.equal(state.run.date, "2024-07-26");
    assert.match(
      await refusal(run(out, [template, "--chat_template_date=2024-07-27", "--max_steps=2"])),
      /chat_template_date: the template was told "2024-07-26" there, "2024-07-27" now/,
    );
    const notes: string[] = [];
    await run(out, [template, "--max_steps=2"], { onLog: (_, message) => notes.push(message) });
    assert.ok(notes.some((note) => note.includes("is told 2024-07-26")), notes.join("\n"));
    assert.deepEqual(await weightsOf(out), await weightsOf(whole));
  }));

Deno.test("the data task says the date that a template is told, or that it asks for none", async () => {
  const shown = async (...keys: string[]) => {
    const { status, stdout, stderr } = await task("data", `${GOLDEN}/run.yaml`, ...keys);
    assert.equal(status, 0, stderr);
    return { stdout, stderr };
  };
  const template = `--chat_template=${chatml("%d %b %Y")}`;
  const told = await shown(template, "--chat_template_date=2024-07-26");
  assert.match(told.stdout, /26 Jul 2024/);
  assert.doesNotMatch(told.stderr, /asks for the date/);
  const now = /^the chat template asks for the date, and is told \d{4}-\d\d-\d\d; --chat_template_date=/m;
  assert.match((await shown(template)).stderr, now);
  const none = await shown("--chat_template_date=2024-07-26");
  assert.match(none.stderr, /^chat_template_date: ignored: the chat template does not ask for the date$/m);
});
