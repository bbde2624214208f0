/** A reference model has to read the same tokens as the model that is trained. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { checkVocabulary } from "../../lib/planning/same_vocabulary.ts";
import { loadVocabulary } from "../../lib/tokenizer/tokenizer.ts";
import { readModelConfig } from "../../lib/weights/config_file.ts";
import { GOLDEN } from "../golden_run.ts";
import { refusal } from "../in_process.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

Deno.test("as many tokens are not the same ones: their texts are compared", () =>
  withTemporaryFolder(async (folder) => {
    const own = `${GOLDEN}/untied`;
    const [model, vocabulary] = [await readModelConfig(own), await loadVocabulary(own)];
    const check = () => checkVocabulary(folder, model, model, vocabulary);
    await Deno.copyFile(join(own, "tokenizer_config.json"), join(folder, "tokenizer_config.json"));
    const json = JSON.parse(await Deno.readTextFile(join(own, "tokenizer.json")));
    const write = () => Deno.writeTextFile(join(folder, "tokenizer.json"), JSON.stringify(json));
    // Another file with the same tokens will do.
    json.model.merges.pop();
    await write();
    await check();
    const { vocab } = json.model;
    const [first, second] = Object.keys(vocab).filter((token) => vocab[token] >= 100).slice(0, 2);
    [vocab[first], vocab[second]] = [vocab[second], vocab[first]];
    await write();
    assert.match(
      await refusal(check(), 1),
      /^ref_model: expected the vocabulary of model_name_or_path, whose token 100 is ".*", found ".*" in .*: both have to read/,
    );
  }));
