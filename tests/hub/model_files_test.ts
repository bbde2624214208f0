import assert from "node:assert/strict";
import { lstat, mkdir, readdir, readFile, rm, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { UserError } from "../../lib/errors.ts";
import { checkModelFiles, readModelFiles, writeModelFiles } from "../../lib/hub/model_files.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const copy = async (source: string, out: string) => await writeModelFiles(await readModelFiles(source), out);

Deno.test("the files of a model are read and written, and nothing else", () =>
  withTemporaryFolder(async (folder) => {
    const [source, out] = [join(folder, "source"), join(folder, "a", "out")];
    await mkdir(join(source, "vocab.json"), { recursive: true });
    await mkdir(join(source, "original"));
    for (const name of ["config.json", "tokenizer_config.json", "model.safetensors", "notes.txt"]) {
      await writeFile(join(source, name), `${name}'s text`);
    }
    await writeFile(join(folder, "blob"), "of the cache");
    await symlink("../blob", join(source, "tokenizer.json"));
    const names = ["config.json", "tokenizer.json", "tokenizer_config.json"];
    await copy(source, out);
    assert.deepEqual((await readdir(out)).sort(), names);
    for (const name of names) {
      assert.ok((await lstat(join(out, name))).isFile());
      assert.deepEqual(await readFile(join(out, name)), await readFile(join(source, name)));
    }
  }));

Deno.test("a link in the output folder is replaced, and what it points to left alone", () =>
  withTemporaryFolder(async (folder) => {
    const [source, out] = [join(folder, "source"), join(folder, "out")];
    await mkdir(source);
    await mkdir(out);
    await writeFile(join(source, "config.json"), "new");
    await writeFile(join(folder, "other"), "kept");
    await symlink("../other", join(out, "config.json"));
    await writeFile(join(out, "added_tokens.json"), "of another model");
    await copy(source, out);
    assert.equal(await readFile(join(out, "config.json"), "utf8"), "new");
    assert.equal(await readFile(join(folder, "other"), "utf8"), "kept");
    assert.deepEqual(await readdir(out), ["config.json"]);
  }));

Deno.test("a model's files that cannot be written are named", () =>
  withTemporaryFolder(async (folder) => {
    await writeFile(join(folder, "config.json"), "text");
    await assert.rejects(
      copy(folder, join(folder, "config.json")),
      (error: Error) => error instanceof UserError && /config\.json: cannot be written/.test(error.message),
    );
  }));

Deno.test("a model's file that is changed, removed or new since it was read is named", () =>
  withTemporaryFolder(async (folder) => {
    const file = (name: string) => join(folder, name);
    await writeFile(file("config.json"), "text");
    await writeFile(file("tokenizer.json"), "text");
    const files = await readModelFiles(folder);
    await checkModelFiles(folder, files);
    const refused = (pattern: RegExp) =>
      assert.rejects(checkModelFiles(folder, files), { name: "UserError", message: pattern });
    await writeFile(file("config.json"), "tent");
    await refused(/config\.json was changed/);
    await writeFile(file("config.json"), "text");
    await writeFile(file("chat_template.jinja"), "");
    await refused(/chat_template\.jinja was changed/);
    await rm(file("chat_template.jinja"));
    await rm(file("tokenizer.json"));
    await refused(/tokenizer\.json was removed/);
  }));
