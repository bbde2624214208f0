/** GPT-2's alphabet: each byte as a character that can be seen. */
const CHARACTERS: string[] = [];
const BYTES = new Map<string, number>();
for (let byte = 0, more = 0; byte < 256; byte++) {
  const visible = (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte !== 0xad);
  CHARACTERS[byte] = String.fromCharCode(visible ? byte : 256 + more++);
  BYTES.set(CHARACTERS[byte], byte);
}

const encoder = new TextEncoder();
const replacing = new TextDecoder("utf-8", { ignoreBOM: true });

/** The UTF-8 of a text in GPT-2's alphabet. */
export function toByteLevel(text: string): string {
  if (/^[!-~]*$/.test(text)) return text;
  let written = "";
  for (const byte of encoder.encode(text)) written += CHARACTERS[byte];
  return written;
}

/** The text of tokens in GPT-2's alphabet; a token with other characters stands for itself. */
export function fromByteLevel(tokens: string[]): string {
  const bytes: number[] = [];
  for (const token of tokens) {
    const start = bytes.length;
    for (const character of token) {
      const byte = BYTES.get(character);
      if (byte === undefined) {
        bytes.length = start;
        for (const own of encoder.encode(token)) bytes.push(own);
        break;
      }
      bytes.push(byte);
    }
  }
  return replacing.decode(Uint8Array.from(bytes));
}
