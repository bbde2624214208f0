/**
 * Kernels that note which of their accesses are out of bounds. A driver may clamp an index, or read zeros: then no
 * result shows it, and where bounds are not checked (`disable_robustness` of Dawn) it reads or overwrites what is near.
 *
 * Every index that is computed, and every index of an array without a length in its type, becomes
 * `[bounds_at(SITE, index, length)]`, which notes where it is too large, and gives it on as it is; likewise places of
 * textures, and the spans of an array that subgroup matrices are loaded from and stored to. Constant indices of what
 * has a length are left alone: WGSL refuses them where they are too large.
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

/** A kernel that notes, in NOTE_WORDS words for each of `sites`, in binding 0 of group 1. */
export interface CheckedSource {
  code: string;
  sites: Site[];
}

/** Of a site: whether it was come by, by how much the largest index was too large, and the length then. */
export const NOTE_WORDS = 3;

/** Behind the kernel, where line numbers of the kernel stay what they are. */
const NOTES = `
@group(1) @binding(0) var<storage, read_write> bounds_notes: array<atomic<u32>>;
fn bounds_note(site: u32, excess: u32, length: u32) {
  atomicMax(&bounds_notes[${NOTE_WORDS}u * site + 1u], excess);
  atomicMax(&bounds_notes[${NOTE_WORDS}u * site + 2u], length);
}
fn bounds_at(site: u32, index: u32, length: u32) -> u32 {
  atomicStore(&bounds_notes[${NOTE_WORDS}u * site], 1u);
  if (index >= length) { bounds_note(site, index - length + 1u, length); }
  return index;
}
fn bounds_in(site: u32, place: vec2u, size: vec2u) -> vec2u {
  _ = bounds_at(site, place.x, size.x);
  _ = bounds_at(site, place.y, size.y);
  return place;
}
fn bounds_span(site: u32, first: u32, count: u32, length: u32) -> u32 {
  _ = bounds_at(site, first, length);
  _ = bounds_at(site, first + count - 1u, length);
  return first;
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
      wrap(words[i + 1], words[end - 1], base, (site) => `bounds_at(${site}u, u32(`, `), ${length})`);
    }
    if (text === "textureLoad" || text === "textureStore") {
      const [[name], place] = listed(words, i + 1);
      const size = `textureDimensions(${name.text})`;
      wrap(place[0], place.at(-1)!, name.text, (site) => `bounds_in(${site}u, vec2u(`, `), ${size})`);
    }
    if (text === "subgroupMatrixLoad" || text === "subgroupMatrixStore") {
      const { name, first, extent, length } = scopes.matrixSpan(i);
      wrap(first[0], first.at(-1)!, name, (site) => `bounds_span(${site}u, `, `, ${extent}, ${length})`);
    }
  });
  if (sites.length === 0) return { code: source, sites };
  return { code: inserted(source, insertions) + NOTES, sites };
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
