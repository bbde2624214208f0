import assert from "node:assert/strict";
import { join, resolve } from "node:path";
import { serveRepository } from "./serve_repository.ts";
import { withTemporaryFolder } from "./temporary_folder.ts";

const TOKENIZER = resolve("tests/golden/data/tokenizer");

Deno.test("mod.ts, the engine and its workers can be imported from a URL, without this repository's deno.json", () =>
  withTemporaryFolder(async (folder) => {
    await using server = serveRepository();
    const script = join(folder, "script.ts");
    await Deno.writeTextFile(
      script,
      `import * as simper from "http://${server.host}/mod.ts";
import * as engine from "http://${server.host}/lib/engine.ts";
console.log(typeof simper.train, simper.losses.simper.wgsl.includes("fn preference_loss"));
const pool = await engine.TokenizerPool.open(${
        JSON.stringify(TOKENIZER)
      }, { readsOnly: Deno.args.length > 0 });
console.log((await pool.promptIds("Hi")).length > 0);
pool.close();`,
    );
    for (const readsOnly of [false, true]) {
      const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
        args: [
          "run",
          "--no-lock",
          ...readsOnly ? ["--unstable-worker-options"] : ["--reload=http://127.0.0.1"],
          `--allow-import=${server.host}`,
          `--allow-read=${TOKENIZER}`,
          script,
          ...readsOnly ? ["readsOnly"] : [],
        ],
        cwd: folder,
      }).output();
      const text = new TextDecoder();
      assert.equal(code, 0, text.decode(stderr));
      assert.equal(text.decode(stdout), "function true\ntrue\n");
    }
  }));

async function sourcesIn(folder: string): Promise<string[]> {
  const entries = await Array.fromAsync(Deno.readDir(folder));
  const found = await Promise.all(entries.map(({ name, isDirectory }) => {
    const path = join(folder, name);
    return isDirectory ? sourcesIn(path) : name.endsWith(".ts") ? [path] : [];
  }));
  return found.flat();
}

Deno.test("below mod.ts only device.ts and the command line name Deno", async () => {
  const found: string[] = [];
  for (const path of [...await sourcesIn("lib"), ...await sourcesIn("kernels")]) {
    if (/\bDeno\./.test(await Deno.readTextFile(path))) found.push(path);
  }
  assert.deepEqual(found.filter((path) => !path.startsWith(join("lib", "cli"))), []);
});

/**
 * What each file of `folders` imports, and each that they import: paths, and specifiers of packages.
 *
 * @param types whether imports of types alone count too, which are gone when the program runs.
 */
async function importsOf(
  folders: readonly string[],
  { types }: { types: boolean },
): Promise<Map<string, string[]>> {
  const imports = new Map<string, string[]>();
  const waiting: string[] = [];
  for (const folder of folders) waiting.push(...await sourcesIn(folder));
  for (let path = waiting.pop(); path; path = waiting.pop()) {
    if (imports.has(path) || !path.endsWith(".ts")) continue;
    const code = (await Deno.readTextFile(path)).replaceAll(/\/\*[^]*?\*\//g, "");
    const imported = types
      ? /(?:^(?:import|export)\b[^;"]*|\bimport\()"([^"]+)"/gm
      : /(?:^(?:import|export)\b(?! type)[^;"]*|\bimport\()"([^"]+)"/gm;
    const found = [...code.matchAll(imported)].map(([, to]) =>
      to.startsWith(".") ? join(path!, "..", to) : to
    );
    imports.set(path, found);
    waiting.push(...found);
  }
  return imports;
}

Deno.test("the model and its kernels import nothing that a browser has not", async () => {
  const imports = await importsOf([
    "kernels",
    ...["graph", "models", "gpu", "losses"].map((name) => join("lib", name)),
  ], { types: false });
  const found = [...imports].filter(([, to]) => to.some((name) => name.startsWith("node:"))).map(([path]) =>
    path
  );
  assert.deepEqual(found, []);
});

Deno.test("files import each other in no circle", async () => {
  const imports = await importsOf(["lib", "kernels"], { types: true });
  const state = new Map<string, "open" | "done">();
  const circles: string[] = [];
  const walk = (path: string, way: string[]) => {
    if (state.get(path) === "open") circles.push([...way.slice(way.indexOf(path)), path].join(" -> "));
    if (state.has(path)) return;
    state.set(path, "open");
    for (const to of imports.get(path) ?? []) walk(to, [...way, path]);
    state.set(path, "done");
  };
  for (const path of imports.keys()) walk(path, []);
  assert.deepEqual(circles, []);
});
