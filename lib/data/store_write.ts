import { type FileHandle, mkdir, open, rename, rm } from "node:fs/promises";
import { dirname } from "node:path";
import { crc32 } from "node:zlib";
import { packedSize, type Pair, responsesOf, sharedPrefix } from "./pair.ts";
import { UserError } from "../errors.ts";
import { shorten } from "../text/json.ts";
import type { Notice } from "./notices.ts";
import {
  COLUMNS,
  encodeFooter,
  type Facts,
  JUDGEMENTS,
  MOST_NOTICES,
  NOTICES_PLACED,
  TRUNCATIONS,
  UNITS,
} from "./store_format.ts";
import type { Place } from "./row.ts";

/** A tokenized row on its way into a store. */
export interface StoredRow {
  pair: Pair;
  place: Place;
  /** The index of its file. */
  file: number;
  notices: readonly Notice[];
}

const WRITTEN_AT_A_TIME = 2 ** 20;

/**
 * Writes the file of a cached split row by row, under another name until it is whole.
 *
 * @param vocabSize token ids are below it; up to 65,536 they take two bytes.
 * @param eosTokenId ends a response.
 * @throws {UserError} where the file cannot be written; whatever goes wrong, nothing is left of it.
 */
export async function writeStore(
  path: string,
  rows: AsyncIterable<StoredRow>,
  { vocabSize, eosTokenId }: { vocabSize: number; eosTokenId?: number },
): Promise<Facts> {
  const temporary = `${path}.${crypto.randomUUID()}.tmp`;
  try {
    await attempt(path, () => mkdir(dirname(path), { recursive: true }));
    const writer = new Writer(await attempt(path, () => open(temporary, "w")), path, vocabSize, eosTokenId);
    try {
      for await (const row of rows) await writer.add(row);
      await writer.finish();
    } finally {
      await writer.file.close();
    }
    await attempt(path, () => rename(temporary, path));
    return writer.facts;
  } catch (error) {
    await rm(temporary, { force: true }).catch(() => {});
    throw error;
  }
}

class Writer {
  readonly facts: Facts = {
    rows: 0,
    truncated: 0,
    truncatedResponses: 0,
    tokens: 0,
    longest: 0,
    responses: 0,
    endedResponses: 0,
    notices: [],
  };
  readonly #columns = COLUMNS.map(() => new GrowingColumn());
  readonly #idBytes: number;
  #pieces: Uint8Array[] = [];
  #piecesBytes = 0;
  #tokenBytes = 0;
  #checksum = 0;

  constructor(
    readonly file: FileHandle,
    readonly path: string,
    vocabSize: number,
    readonly eosTokenId: number | undefined,
  ) {
    this.#idBytes = vocabSize <= 2 ** 16 ? 2 : 4;
  }

  async add({ pair, place, file, notices }: StoredRow): Promise<void> {
    const { chosen, rejected, truncated, desirable } = pair;
    const row: Record<typeof COLUMNS[number], number> = {
      prefix: sharedPrefix(pair),
      chosenPrompt: chosen.promptLength,
      chosenLength: chosen.ids.length,
      rejectedPrompt: rejected?.promptLength ?? 0,
      rejectedLength: rejected?.ids.length ?? 0,
      ...packedSize(pair),
      truncated: TRUNCATIONS.indexOf(truncated),
      desirable: JUDGEMENTS.indexOf(desirable),
      file,
      unit: UNITS.indexOf(place.unit),
      number: place.number,
    };
    COLUMNS.forEach((name, i) => this.#columns[i].push(row[name]));

    const { facts } = this;
    if (truncated) facts.truncated++;
    if (truncated === "response") facts.truncatedResponses++;
    for (const notice of notices) this.#count(notice);
    facts.rows++;
    facts.tokens += row.chosenLength + row.rejectedLength;
    facts.longest = Math.max(facts.longest, row.chosenLength, row.rejectedLength);

    // What is put after the prompt of unpaired data is a response of another row, and was counted there.
    for (const { ids, promptLength } of desirable === undefined ? responsesOf(pair) : [chosen]) {
      facts.responses++;
      if (this.eosTokenId !== undefined && ids.includes(this.eosTokenId, Math.max(promptLength, 1))) {
        facts.endedResponses++;
      }
    }

    const ids = rejected ? [...chosen.ids, ...rejected.ids.slice(row.prefix)] : chosen.ids;
    const typed = this.#idBytes === 2 ? Uint16Array.from(ids) : Uint32Array.from(ids);
    this.#tokenBytes += typed.byteLength;
    await this.#write(new Uint8Array(typed.buffer));
  }

  #count({ kind, detail }: Notice): void {
    const { notices, rows: index } = this.facts;
    let found = notices.find((notice) => notice.kind === kind);
    if (!found) {
      if (notices.length === MOST_NOTICES) return;
      found = { kind, count: 0, first: [] };
      notices.push(found);
    }
    found.count++;
    if (found.first.length === NOTICES_PLACED) return;
    found.first.push({ index, ...(detail !== undefined && { detail: shorten(detail) }) });
  }

  async finish(): Promise<void> {
    for (const column of this.#columns) await this.#write(column.bytes());
    const facts = new TextEncoder().encode(JSON.stringify(this.facts));
    await this.#write(facts);
    await this.#write(encodeFooter({
      pairs: this.facts.rows,
      tokenBytes: this.#tokenBytes,
      idBytes: this.#idBytes,
      factsBytes: facts.length,
    }));
    await this.#flush();
    await this.#write(new Uint8Array(Uint32Array.of(this.#checksum).buffer));
    await this.#flush();
    await attempt(this.path, () => this.file.sync());
  }

  async #write(bytes: Uint8Array): Promise<void> {
    this.#pieces.push(bytes);
    this.#piecesBytes += bytes.length;
    if (this.#piecesBytes >= WRITTEN_AT_A_TIME) await this.#flush();
  }

  async #flush(): Promise<void> {
    const bytes = new Uint8Array(await new Blob(this.#pieces as BlobPart[]).arrayBuffer());
    this.#pieces = [];
    this.#piecesBytes = 0;
    this.#checksum = crc32(bytes, this.#checksum);
    await attempt(this.path, () => this.file.appendFile(bytes));
  }
}

/** Numbers of 32 bits, as many as come. */
class GrowingColumn {
  #numbers = new Uint32Array(1024);
  #length = 0;

  push(number: number): void {
    if (this.#length === this.#numbers.length) {
      const larger = new Uint32Array(2 * this.#length);
      larger.set(this.#numbers);
      this.#numbers = larger;
    }
    this.#numbers[this.#length++] = number;
  }

  bytes(): Uint8Array {
    return new Uint8Array(this.#numbers.buffer, 0, this.#length * 4);
  }
}

async function attempt<T>(path: string, write: () => Promise<T>): Promise<T> {
  try {
    return await write();
  } catch (error) {
    throw new UserError(
      `${dirname(path)}: the cache of tokenized pairs cannot be written: ${
        (error as Error).message
      }. Make room there, ` +
        "or set SIMPER_CACHE to another folder",
    );
  }
}
