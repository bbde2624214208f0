/** What the endpoints share. */
import { UserError } from "../errors.ts";
import { text } from "../config/values.ts";
import { ApiError } from "./api_error.ts";
import { TokenTexts } from "./token_texts.ts";
import type { RequestFields } from "./fields.ts";
import { Metrics } from "./metrics.ts";
import { Places } from "./places.ts";
import type { ServedModel } from "./served_model.ts";

/** Bounds of what is asked. */
export interface ServerLimits {
  /** Requests in hand at a time. */
  requests: number;
  /** Seconds that an answer may take, its waiting included. */
  seconds: number;
  /** Bytes of a body. */
  bodyBytes: number;
  /** Seconds that a body may take to come. */
  bodySeconds: number;
}

/** The models, and what is counted of them. */
export class ServerContext {
  readonly places: Places;
  readonly metrics: Metrics;
  /** When the server began, in seconds. */
  readonly created = Math.floor(Date.now() / 1000);
  readonly #texts = new Map<ServedModel, TokenTexts>();

  /** @param warn hears of defects of this program, which who asks is not told. */
  constructor(
    readonly models: readonly ServedModel[],
    readonly limits: ServerLimits,
    readonly warn: (message: string) => void,
  ) {
    this.places = new Places(limits.requests);
    this.metrics = new Metrics(models, () => this.places.taken);
  }

  /** @throws {ApiError} 404 for one that is not served. */
  modelNamed(name: string): ServedModel {
    const found = this.models.find((model) => model.name === name);
    if (found) return found;
    const names = this.models.map(({ name }) => JSON.stringify(name)).join(" or ");
    throw new ApiError(404, `model: expected ${names}, found ${JSON.stringify(name.slice(0, 200))}`, {
      param: "model",
      code: "model_not_found",
    });
  }

  /** The model that a request names; the first one where it names none. */
  modelOf(fields: RequestFields): ServedModel {
    const name = fields.get("model", text);
    return name === undefined ? this.models[0] : this.modelNamed(name);
  }

  tokenTexts(model: ServedModel): TokenTexts {
    const texts = this.#texts.get(model) ?? new TokenTexts(model.tokenizer);
    this.#texts.set(model, texts);
    return texts;
  }

  /** What who asked is told of an error. */
  apiErrorOf(error: unknown): ApiError {
    if (error instanceof ApiError) return error;
    // What a generator has no room for.
    if (error instanceof RangeError) return new ApiError(400, error.message);
    this.warn(error instanceof UserError ? error.message : String((error as Error)?.stack ?? error));
    return new ApiError(
      500,
      error instanceof UserError ? error.message : "a defect of the server, which its log tells",
    );
  }
}

/**
 * Does what depends on a field's value alone.
 * @throws {ApiError} 400 that names the field, where the value cannot be used.
 */
export async function ofField<T>(param: string, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (error) {
    if (error instanceof UserError) throw new ApiError(400, error.message, { param });
    throw error;
  }
}
