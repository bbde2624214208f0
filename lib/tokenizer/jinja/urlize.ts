/** Jinja's urlize(): addresses in a text as links. */
import { countSteps, countText } from "./limits.ts";
import { escapeHtml } from "./print.ts";
import { pointCount, points, WHITE } from "./text.ts";

export interface LinkOptions {
  /** Characters of an address that are shown. */
  limit: number | undefined;
  rel: readonly string[];
  target: string | undefined;
  schemes: readonly string[];
}

const W = "[\\p{L}\\p{N}_%-]";
const ADDRESS = new RegExp(
  `^(?:(?:https?://|www\\.)(?:(?:${W}+\\.)+)?(?:[a-z]{2,63}|xn--[\\p{L}\\p{N}_%]{2,59})|` +
    `(?:${W}{2,63}\\.)+(?:com|net|int|edu|gov|org|info|mil)|` +
    "https?://(?:\\d{1,3}(?:\\.\\d{1,3}){3}|\\[(?:[\\da-f]{0,4}:){2}(?:[\\da-f]{0,4}:?){1,6}\\]))" +
    `(?::\\d{1,5})?(?:[/?#][^${WHITE}]*)?\\n?$`,
  "iu",
);
const MAIL = new RegExp(`^[^${WHITE}]+@[\\p{L}\\p{N}_][\\p{L}\\p{N}_.-]*\\.[\\p{L}\\p{N}_]+\\n?$`, "u");
/** A longer word is no address, and the patterns take time with its square. */
const LONGEST_ADDRESS = 10_000;

export function urlize(text: string, { limit, rel, target, schemes }: LinkOptions): string {
  const sorted = [...new Set(rel.filter((part) => part !== ""))].sort().join(" ");
  const attributes = (sorted ? ` rel="${escapeHtml(sorted)}"` : "") +
    (target ? ` target="${escapeHtml(target)}"` : "");
  const shown = (address: string) =>
    limit !== undefined && pointCount(address) > limit
      ? `${points(address).slice(0, limit).join("")}...`
      : address;
  const words = escapeHtml(text).split(new RegExp(`([${WHITE}]+)`));
  countText(2 * text.length);
  return words.map((word) => {
    if (word.length > LONGEST_ADDRESS) return word;
    countSteps(word.length);
    const [head] = /^(?:[(<]|&lt;)*/.exec(word)!;
    let middle = word.slice(head.length);
    const [tail] = /(?:[)>.,\n]|&gt;)*$/.exec(middle)!;
    let rest = tail;
    middle = middle.slice(0, middle.length - tail.length);
    for (const [open, close] of [["(", ")"], ["<", ">"], ["&lt;", "&gt;"]]) {
      const count = (part: string, sought: string) => part.split(sought).length - 1;
      const opened = count(middle, open);
      if (opened <= count(middle, close)) continue;
      for (let i = Math.min(opened, count(rest, close)); i > 0; i--) {
        const end = rest.indexOf(close) + close.length;
        middle += rest.slice(0, end);
        rest = rest.slice(end);
      }
    }
    const isScheme = schemes.find((scheme) => middle !== scheme && middle.startsWith(scheme)) !== undefined;
    if (ADDRESS.test(middle)) {
      const address = /^https?:\/\//.test(middle) ? middle : `https://${middle}`;
      middle = `<a href="${address}"${attributes}>${shown(middle)}</a>`;
    } else if (middle.startsWith("mailto:") && MAIL.test(middle.slice(7))) {
      middle = `<a href="${middle}">${middle.slice(7)}</a>`;
    } else if (
      middle.includes("@") && !middle.startsWith("www.") && !middle.startsWith("@") &&
      !middle.includes(":") &&
      MAIL.test(middle)
    ) {
      middle = `<a href="mailto:${middle}">${middle}</a>`;
    } else if (isScheme) {
      middle = `<a href="${middle}"${attributes}>${middle}</a>`;
    }
    return head + middle + rest;
  }).join("");
}
