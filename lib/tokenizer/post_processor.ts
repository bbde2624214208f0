import { UserError } from "../errors.ts";
import { isObject, show } from "../text/json.ts";
import { Fields } from "./fields.ts";
import type { TokenizerFiles } from "./files.ts";

/** The ids that stand before a text's own, and behind them, where special tokens are added. */
export interface Frame {
  before: readonly number[];
  after: readonly number[];
}

const NONE: Frame = { before: [], after: [] };

/**
 * What transformers' `tok(text)` puts around the ids of a text: the template of tokenizer.json's `post_processor`.
 * What the configuration says by `add_bos_token` does not count where there is a tokenizer.json.
 *
 * @throws {UserError} for a post-processor that no decoder has.
 */
export function frameOf({ json, path }: Pick<TokenizerFiles, "json" | "path">): Frame {
  const written = json.post_processor ?? undefined;
  return written === undefined ? NONE : read(Fields.of(written, `${path}: post_processor`));
}

function read(fields: Fields): Frame {
  switch (fields.type) {
    // It moves offsets alone.
    case "ByteLevel":
      return NONE;
    case "Sequence":
      // Of templates the first one counts.
      return fields.list("processors").map(read).find((frame) => frame !== NONE) ?? NONE;
    case "TemplateProcessing":
      return template(fields);
    default:
      throw new UserError(`${fields.where}.type: ${show(fields.type)} is not supported`);
  }
}

function template(fields: Fields): Frame {
  const special = isObject(fields.json.special_tokens) ? fields.json.special_tokens : {};
  const frame = { before: [] as number[], after: [] as number[] };
  let side: keyof typeof frame = "before";
  for (const { json, where } of fields.list("single")) {
    if (isObject(json.Sequence)) side = "after";
    if (!isObject(json.SpecialToken)) continue;
    const token = special[String(json.SpecialToken.id)];
    const ids = isObject(token) ? token.ids : undefined;
    if (!Array.isArray(ids) || !ids.every((id) => Number.isSafeInteger(id) && id >= 0)) {
      throw new UserError(
        `${where}: expected a token of special_tokens, found ${show(json.SpecialToken.id)}`,
      );
    }
    frame[side].push(...ids);
  }
  return frame;
}
