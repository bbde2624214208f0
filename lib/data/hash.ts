import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";
import type { HashedFile } from "../report/run_report.ts";

/** SHA-256 of a file's bytes, read in pieces. */
export async function hashFile(path: string): Promise<HashedFile> {
  const hash = createHash("sha256");
  for await (const piece of createReadStream(path)) hash.update(piece);
  return { path, sha256: hash.digest("hex") };
}
