import assert from "node:assert/strict";
import { join, resolve } from "node:path";
import { withTemporaryFolder } from "./temporary_folder.ts";

const TOKENIZER = resolve("tests/golden/data/tokenizer");

/** Serves this repository's files on the loopback, as a plain file host does. */
function serveRepository() {
  const types: Record<string, string> = { ts: "application/typescript", json: "application/json" };
  return Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
    const path = new URL(request.url).pathname.slice(1);
    const body = await Deno.readFile(path).catch(() => undefined);
    if (!body) return new Response("not found", { status: 404 });
    return new Response(body, {
      headers: { "content-type": types[path.split(".").at(-1)!] ?? "text/plain" },
    });
  });
}

Deno.test("mod.ts and its workers can be imported from a URL, without this repository's deno.json", () =>
  withTemporaryFolder(async (folder) => {
    const server = serveRepository();
    const { port } = server.addr as Deno.NetAddr;
    const script = join(folder, "script.ts");
    await Deno.writeTextFile(
      script,
      `import * as simper from "http://127.0.0.1:${port}/mod.ts";
console.log(typeof simper.train, simper.losses.simper.wgsl.includes("fn preference_loss"));
const pool = await simper.TokenizerPool.open(${
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
          `--allow-import=127.0.0.1:${port}`,
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
    await server.shutdown();
  }));

Deno.test("below mod.ts only device.ts and the command line name Deno", async () => {
  const found: string[] = [];
  async function walk(folder: string): Promise<void> {
    for await (const { name, isDirectory } of Deno.readDir(folder)) {
      const path = join(folder, name);
      if (isDirectory) await walk(path);
      else if (name.endsWith(".ts") && /\bDeno\./.test(await Deno.readTextFile(path))) found.push(path);
    }
  }
  for (const folder of ["lib", "kernels"]) await walk(folder);
  assert.deepEqual(found.filter((path) => !path.startsWith(join("lib", "cli"))), []);
});
