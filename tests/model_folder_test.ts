import assert from "node:assert/strict";
import { lstat, mkdir, readdir, readFile, symlink, writeFile } from "node:fs/promises";
import { join } from "node:path";
import { UserError } from "../lib/errors.ts";
import { copyModelFiles } from "../lib/model/folder.ts";
import { withTemporaryFolder } from "./temporary_folder.ts";

Deno.test("copyModelFiles() copies the files of a model, and nothing else", () =>
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
    assert.deepEqual(await copyModelFiles(source, out), names);
    assert.deepEqual((await readdir(out)).sort(), names);
    for (const name of names) {
      assert.ok((await lstat(join(out, name))).isFile());
      assert.deepEqual(await readFile(join(out, name)), await readFile(join(source, name)));
    }
  }));

Deno.test("copyModelFiles() replaces a link in the output folder, and leaves alone what it points to", () =>
  withTemporaryFolder(async (folder) => {
    const [source, out] = [join(folder, "source"), join(folder, "out")];
    await mkdir(source);
    await mkdir(out);
    await writeFile(join(source, "config.json"), "new");
    await writeFile(join(folder, "other"), "kept");
    await symlink("../other", join(out, "config.json"));
    await copyModelFiles(source, out);
    assert.equal(await readFile(join(out, "config.json"), "utf8"), "new");
    assert.equal(await readFile(join(folder, "other"), "utf8"), "kept");
  }));

Deno.test("copyModelFiles() may copy a folder onto itself", () =>
  withTemporaryFolder(async (folder) => {
    await writeFile(join(folder, "config.json"), "text");
    await copyModelFiles(folder, folder);
    assert.equal(await readFile(join(folder, "config.json"), "utf8"), "text");
    assert.deepEqual(await readdir(folder), ["config.json"]);
  }));

Deno.test("copyModelFiles() says where it cannot write", () =>
  withTemporaryFolder(async (folder) => {
    await writeFile(join(folder, "config.json"), "text");
    await assert.rejects(
      copyModelFiles(folder, join(folder, "config.json")),
      (error: Error) => error instanceof UserError && /cannot copy the model's files/.test(error.message),
    );
  }));
