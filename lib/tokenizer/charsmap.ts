/**
 * SentencePiece's `precompiled_charsmap`: a trie (a double array of 32-bit units, as Darts writes it) from the UTF-8
 * of characters to places in a list of their replacements, each ended by NUL.
 *
 * @returns what a text is replaced with, or undefined; or nothing at all where the map is none.
 */
export function charsmap(base64: string): ((text: string) => string | undefined) | undefined {
  const bytes = decodeBase64(base64);
  if (!bytes || bytes.length < 4) return undefined;
  const view = new DataView(bytes.buffer);
  const size = view.getUint32(0, true);
  if (size % 4 > 0 || size + 4 > bytes.length) return undefined;
  const units = Uint32Array.from({ length: size / 4 }, (_, i) => view.getUint32(4 + 4 * i, true));
  const replacements = bytes.subarray(4 + size);
  const encoder = new TextEncoder();
  const decoder = new TextDecoder("utf-8", { ignoreBOM: true });
  const offset = (unit: number) => (unit >>> 10) << ((unit & (1 << 9)) >>> 6);

  return (text) => {
    let node = offset(units[0]);
    for (const byte of encoder.encode(text)) {
      if (byte === 0) return undefined;
      node ^= byte;
      const unit = units[node];
      if (unit === undefined || ((unit & 0x800000ff) >>> 0) !== byte) return undefined;
      node ^= offset(unit);
      if ((unit >>> 8) & 1) {
        // The shortest piece of the text that the map knows, as `tokenizers` does it.
        const start = units[node] & 0x7fffffff;
        const end = replacements.indexOf(0, start);
        return decoder.decode(replacements.subarray(start, end < 0 ? undefined : end));
      }
    }
    return undefined;
  };
}

function decodeBase64(text: string): Uint8Array<ArrayBuffer> | undefined {
  try {
    return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
  } catch {
    return undefined;
  }
}
