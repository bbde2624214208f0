import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import type { Random } from "./random.ts";

/** Where a case may write, and a folder beside it that it must not reach. */
export interface World {
  folder: string;
  outside: string;
}

/** One hostile input, ready to be read. */
export interface Case {
  /** Bytes of the input, to which memory is compared. */
  bytes: number;
  /** Reads it as the program does: gives what it holds, or throws a UserError. */
  run: () => Promise<unknown> | unknown;
}

/** A format, and how it is damaged and read. */
export interface Target {
  name: string;
  /** What every refusal must name. */
  names: RegExp;
  make: (random: Random, world: World) => Case;
}

/** Files of the repository that the damage begins from. */
export function golden(path: string): Uint8Array {
  return readFileSync(new URL(`../../${path}`, import.meta.url));
}

export const goldenText = (path: string): string => new TextDecoder().decode(golden(path));

/** Writes the files of a case into its folder; gives their bytes together. */
export function place({ folder }: World, files: Record<string, Uint8Array | string>): number {
  let bytes = 0;
  for (const [name, content] of Object.entries(files)) {
    const path = join(folder, name);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, content);
    bytes += content.length;
  }
  return bytes;
}
