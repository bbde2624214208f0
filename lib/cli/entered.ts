/** What is entered line by line, one entry after the other. */

/** Entries to come. */
export type Entries = AsyncGenerator<string, void>;

const QUOTES = '"""';

/**
 * Entries of standard input: a line each, which a backslash at its end makes go on in the next one; or all between
 * `"""` and `"""`.
 *
 * @param show shows what stands before a line that is to be entered.
 */
export async function* enteredLines(show: (mark: string) => void): Entries {
  yield* entriesOf(linesOf(Deno.stdin.readable), show);
}

/** Entries of lines. */
export async function* entriesOf(
  lines: AsyncIterator<string> | Iterator<string>,
  show: (mark: string) => void,
): Entries {
  const next = async (mark: string): Promise<string | undefined> => {
    show(mark);
    const { done, value } = await lines.next();
    return done ? undefined : value;
  };
  for (let line: string | undefined; (line = await next("> ")) !== undefined;) {
    const entry: string[] = [];
    if (line.trimStart().startsWith(QUOTES)) {
      line = line.trimStart().slice(QUOTES.length);
      while (line !== undefined && !line.trimEnd().endsWith(QUOTES)) {
        entry.push(line);
        line = await next(". ");
      }
      if (line !== undefined) entry.push(line.trimEnd().slice(0, -QUOTES.length));
      // A line of its own for each """ makes no line of the text.
      if (entry[0] === "") entry.shift();
      if (entry.at(-1) === "") entry.pop();
    } else {
      while (line !== undefined && line.endsWith("\\")) {
        entry.push(line.slice(0, -1));
        line = await next(". ");
      }
      if (line !== undefined) entry.push(line);
    }
    yield entry.join("\n");
  }
}

/** Lines without their ends; the last may have none. */
async function* linesOf(bytes: ReadableStream<Uint8Array<ArrayBuffer>>): AsyncGenerator<string> {
  let rest = "";
  for await (const text of bytes.pipeThrough(new TextDecoderStream())) {
    const lines = (rest + text).split("\n");
    rest = lines.pop()!;
    for (const line of lines) yield line.replace(/\r$/, "");
  }
  if (rest !== "") yield rest;
}
