import { open, stat } from "node:fs/promises";

const PIECE = 2 ** 20;

/**
 * A part of a file as a Blob whose bytes are read when they are asked for, so that a file of any size can be sent.
 * The one of @huggingface/hub goes through node's streams, which under Deno end the process where a server answers
 * before all was sent.
 */
export class FileBlob extends Blob {
  private constructor(
    readonly path: string,
    readonly start: number,
    readonly end: number,
    readonly onRead?: (bytes: number) => void,
  ) {
    super();
  }

  /** @param onRead hears of the bytes of each piece that is read as a stream. */
  static async of(path: string, onRead?: (bytes: number) => void): Promise<FileBlob> {
    return new FileBlob(path, 0, (await stat(path)).size, onRead);
  }

  override get size(): number {
    return this.end - this.start;
  }

  /** Neither may be negative: the uploads have no use for that. */
  override slice(start = 0, end = this.size): FileBlob {
    return new FileBlob(
      this.path,
      Math.min(this.end, this.start + start),
      Math.min(this.end, this.start + end),
      this.onRead,
    );
  }

  override async arrayBuffer(): Promise<ArrayBuffer> {
    const bytes = new Uint8Array(this.size);
    const file = await open(this.path);
    try {
      for (let at = 0; at < bytes.length;) {
        const { bytesRead } = await file.read(bytes, at, bytes.length - at, this.start + at);
        if (bytesRead === 0) throw new Error(`${this.path} was cut while it was read`);
        at += bytesRead;
      }
    } finally {
      await file.close();
    }
    return bytes.buffer;
  }

  override async text(): Promise<string> {
    return new TextDecoder().decode(await this.arrayBuffer());
  }

  override stream(): ReadableStream<Uint8Array<ArrayBuffer>> {
    let at = 0;
    return new ReadableStream({
      pull: async (controller) => {
        const piece = this.slice(at, at + PIECE);
        at += piece.size;
        this.onRead?.(piece.size);
        if (piece.size > 0) controller.enqueue(new Uint8Array(await piece.arrayBuffer()));
        else controller.close();
      },
    }, { highWaterMark: 0 });
  }
}
