/** Writes configs/shipped.json anew: the files that ship beside the program, with their SHA-256. */
import { createHash } from "node:crypto";
import { readdir, readFile, writeFile } from "node:fs/promises";

/** Run files, and the models and data that they name. */
export async function shippedFiles(): Promise<Record<string, string>> {
  const names = await readdir("configs", { recursive: true });
  const files = names.map((name) => `configs/${name.replaceAll("\\", "/")}`)
    .filter((name) => /^configs\/[^/]+\.yaml$|^configs\/tiny\/.+\.(json|safetensors|gz|txt)$/.test(name))
    .sort();
  return Object.fromEntries(
    await Promise.all(
      files.map(async (file) => [file, createHash("sha256").update(await readFile(file)).digest("hex")]),
    ),
  );
}

if (import.meta.main) {
  await writeFile("configs/shipped.json", `${JSON.stringify(await shippedFiles(), undefined, 2)}\n`);
}
