import { createHash } from "node:crypto";
import { createReadStream } from "node:fs";

/** A file that the run read, with its SHA-256 in hexadecimal. */
export interface HashedFile {
  /** As it was found. */
  path: string;
  /** Of its bytes, in hexadecimal. */
  sha256: string;
}

/** SHA-256 of a file's bytes, read in pieces, of whose bytes `onRead` hears. */
export async function hashFile(path: string, onRead?: (bytes: number) => void): Promise<HashedFile> {
  const hash = createHash("sha256");
  for await (const piece of createReadStream(path)) {
    hash.update(piece);
    onRead?.(piece.length);
  }
  return { path, sha256: hash.digest("hex") };
}
