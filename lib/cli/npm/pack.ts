/** `deno task pack`: the npm package, as a folder from which `npm pack` or `npm publish` takes it. */
import { copyFile, mkdir, readdir, readFile, rm, writeFile } from "node:fs/promises";
import { dirname, join, relative } from "node:path";
import { fileURLToPath } from "node:url";
import SHIPPED from "../../../configs/shipped.json" with { type: "json" };

const ROOT = fileURLToPath(new URL("../../../", import.meta.url));

/** What the program needs of deno.json when it runs. */
const CONFIGURATION = ["name", "version", "license", "exports", "permissions", "nodeModulesDir", "unstable"];

/**
 * Writes the package into `folder`, anew.
 *
 * @param deno the version of Deno that runs it.
 */
export async function pack(folder: string, deno: string): Promise<void> {
  const files = [
    "mod.ts",
    "deno.lock",
    "LICENSE",
    "README.md",
    "configs/shipped.json",
    ...Object.keys(SHIPPED),
  ];
  for (const name of ["lib", "kernels"]) {
    const found = await readdir(join(ROOT, name), { recursive: true, withFileTypes: true });
    for (const entry of found) {
      if (entry.isFile() && !entry.name.endsWith(".md")) {
        files.push(relative(ROOT, join(entry.parentPath, entry.name)));
      }
    }
  }
  await rm(folder, { recursive: true, force: true });
  for (const file of files) {
    await mkdir(dirname(join(folder, file)), { recursive: true });
    await copyFile(join(ROOT, file), join(folder, file));
  }
  const configuration = JSON.parse(await readFile(join(ROOT, "deno.json"), "utf8"));
  const write = (name: string, value: unknown) =>
    writeFile(join(folder, name), `${JSON.stringify(value, undefined, 2)}\n`);
  configuration.permissions = permissionsOf(configuration);
  await write("deno.json", Object.fromEntries(CONFIGURATION.map((key) => [key, configuration[key]])));
  await write("package.json", {
    name: "simper",
    version: configuration.version,
    description: "Preference alignment of language models, on any GPU that WebGPU reaches",
    license: configuration.license,
    type: "module",
    bin: { simper: "lib/cli/npm/simper.mjs" },
    engines: { node: ">=20" },
    dependencies: { deno },
  });
}

/** The permissions of each command, as the task of its name has them; a set may serve several. */
function permissionsOf(
  { tasks, permissions }: {
    tasks: Record<string, { command: string }>;
    permissions: Record<string, unknown>;
  },
): Record<string, unknown> {
  const commands = Object.values(tasks).flatMap(({ command }) => {
    const [, set, name] = /-P=(\S+) lib\/cli\/main\.ts (\S+)$/.exec(command) ?? [];
    return name === undefined ? [] : [[name, permissions[set]] as const];
  });
  return { ...permissions, ...Object.fromEntries(commands) };
}

if (import.meta.main) await pack("out/npm", Deno.version.deno);
