import assert from "node:assert/strict";
import { join } from "node:path";
import { serveRepository } from "../serve_repository.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const { permissions } = JSON.parse(await Deno.readTextFile("deno.json"));

Deno.test("a script of 40 lines imports the module from a URL, and does all with the permissions of a training", () =>
  withTemporaryFolder(async (folder) => {
    await using repository = serveRepository();
    const text = await Deno.readTextFile("tests/script/script.ts");
    assert.ok(text.trim().split("\n").length <= 40);
    const script = join(folder, "script.ts");
    await Deno.writeTextFile(script, text.replace("../..", `http://${repository.host}`));
    const flags = Object.entries(permissions.train as Record<string, true | string[]>).map((
      [name, values],
    ) => values === true ? `--allow-${name}` : `--allow-${name}=${values.join(",")}`);
    const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
      args: [
        "run",
        "--no-prompt",
        "--no-lock",
        "--no-check",
        `--allow-import=${repository.host}`,
        ...flags,
        script,
      ],
      cwd: folder,
      env: { SIMPER_CACHE: join(folder, "cache") },
      stdin: "null",
    }).output();
    const decoder = new TextDecoder();
    assert.equal(code, 0, decoder.decode(stderr));
    const [run, accuracy, ...rest] = decoder.decode(stdout).trim().split("\n");
    assert.equal(run, "true 6");
    assert.equal(accuracy, "1");
    assert.ok(rest.length >= 2, rest.join("\n"));
    assert.equal(decoder.decode(stderr).replaceAll(/^.*(Download|XDG_RUNTIME_DIR).*\n/gm, ""), "");
    for (const name of ["model.safetensors", "README.md", "report.html", "all_results.json"]) {
      assert.ok((await Deno.stat(join(folder, "scripted", name))).isFile);
    }
    assert.match(await Deno.readTextFile(join(folder, "scripted", "README.md")), /`my-hinge`/);
  }));
