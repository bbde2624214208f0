/**
 * Kernels that note which of their accesses are out of bounds. A driver may clamp an index, or read zeros: then no
 * result shows it, and where bounds are not checked (`disable_robustness` of Dawn) it reads or overwrites what is near.
 *
 * Every index that is computed, and every index of an array without a length in its type, becomes
 * `[bounds_at_SITE(index, length)]`, which keeps by how much it is too large, and gives it on as it is; likewise places
 * of textures, and the spans of an array that subgroup matrices are loaded from and stored to. Constant indices of what
 * has a length are left alone: WGSL refuses them where they are too large. A thread notes what it kept as it ends:
 * a write for each access would take a driver on the processor minutes.
 *
 * What is out of bounds is so by the binding, as WebGPU has it, not by the buffer.
 */
import { closing, listed, type Token, tokens } from "./tokens.ts";
import { Scopes } from "./types.ts";

/** One place of a kernel's text where something is accessed by an index. */
export interface Site {
  /** What is indexed, and by what. */
  what: string;
  index: string;
  /** The line of the kernel, without space before and behind. */
  line: string;
}

/** A kernel that notes, in a word for each of `sites`, in binding 0 of group 1. */
export interface CheckedSource {
  code: string;
  sites: Site[];
}

/** What a word means: whether any thread came by, and by how many elements the largest index was too large. */
export const meaningOf = (word: number): { isReached: boolean; excess: number } => ({
  isReached: word > 0,
  excess: Math.max(0, word - 1),
});

/** What stands behind the kernel, where the numbers of its lines stay what they are. */
const notes = (sites: readonly Site[]) => `
@group(1) @binding(0) var<storage, read_write> bounds_notes: array<atomic<u32>>;
fn bounds_of(index: u32, length: u32) -> u32 {
  return select(1u, min(index - length, 0xfffffffdu) + 2u, index >= length);
}
${
  sites.map((_, site) =>
    `var<private> bounds_${site}: u32;
fn bounds_at_${site}(index: u32, length: u32) -> u32 {
  bounds_${site} = max(bounds_${site}, bounds_of(index, length));
  return index;
}
fn bounds_in_${site}(place: vec2u, size: vec2u) -> vec2u {
  bounds_${site} = max(bounds_${site}, max(bounds_of(place.x, size.x), bounds_of(place.y, size.y)));
  return place;
}
fn bounds_span_${site}(first: u32, count: u32, length: u32) -> u32 {
  bounds_${site} = max(bounds_${site}, max(bounds_of(first, length), bounds_of(first + count - 1u, length)));
  return first;
}`
  ).join("\n")
}
fn bounds_end() {
${
  sites.map((_, site) =>
    `  if (bounds_${site} > atomicLoad(&bounds_notes[${site}])) { atomicMax(&bounds_notes[${site}], bounds_${site}); }`
  ).join("\n")
}
}
`;

/** Rewrites the WGSL of a kernel. Throws where it has what is not understood here. */
export function checkedSource(source: string): CheckedSource {
  const words = tokens(source);
  const sites: Site[] = [];
  const insertions: { at: number; text: string }[] = [];
  const lines = source.split("\n");
  /** Wraps the words from `first` to `last`, both included. */
  const wrap = (first: Token, last: Token, what: string, before: (site: number) => string, after: string) => {
    const line = lines[source.slice(0, first.at).split("\n").length - 1].trim();
    insertions.push({ at: first.at, text: before(sites.length) });
    insertions.push({ at: last.at + last.text.length, text: after });
    sites.push({ what, index: source.slice(first.at, last.at + last.text.length), line });
  };
  const scopes = new Scopes(words);
  words.forEach(({ text }, i) => {
    scopes.pass(i);
    if (text === "[") {
      const end = closing(words, i);
      const { base, length } = scopes.indexed(i);
      const isConstant = end === i + 2 && /^\d+[ui]?$/.test(words[i + 1].text);
      if (isConstant && !length.startsWith("arrayLength")) return;
      wrap(words[i + 1], words[end - 1], base, (site) => `bounds_at_${site}(u32(`, `), ${length})`);
    }
    if (text === "textureLoad" || text === "textureStore") {
      const [[name], place] = listed(words, i + 1);
      const size = `textureDimensions(${name.text})`;
      wrap(place[0], place.at(-1)!, name.text, (site) => `bounds_in_${site}(vec2u(`, `), ${size})`);
    }
    if (text === "subgroupMatrixLoad" || text === "subgroupMatrixStore") {
      const { name, first, extent, length } = scopes.matrixSpan(i);
      wrap(first[0], first.at(-1)!, name, (site) => `bounds_span_${site}(`, `, ${extent}, ${length})`);
    }
  });
  if (sites.length === 0) return { code: source, sites };
  const main = words.findIndex(({ text }, i) => text === "main" && words[i - 1].text === "fn");
  const open = closing(words, main + 1) + 1;
  const end = closing(words, open);
  insertions.push({ at: words[end].at, text: "bounds_end();\n" });
  for (const { text, at } of words.slice(open, end)) {
    if (text === "return") insertions.push({ at, text: "bounds_end(); " });
  }
  return { code: inserted(source, insertions) + notes(sites), sites };
}

function inserted(source: string, insertions: readonly { at: number; text: string }[]): string {
  let code = "";
  let from = 0;
  // No two are at one place: between them there is a bracket or a comma.
  for (const { at, text } of insertions.toSorted((one, other) => one.at - other.at)) {
    code += source.slice(from, at) + text;
    from = at;
  }
  return code + source.slice(from);
}
