/** The page at `/`: two answers side by side, and a vote that is kept as a pair. */
import { ApiError } from "./api_error.ts";
import type { RequestFields } from "./fields.ts";
import html from "./page.html" with { type: "text" };
import script from "./page.js" with { type: "text" };
import style from "./page.css" with { type: "text" };

/**
 * It runs and shows its own files, and asks its own server: should text of a model ever get past it, that runs
 * nothing.
 */
const HEADERS = {
  "cache-control": "no-store",
  "content-security-policy":
    "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; base-uri 'none'; " +
    "form-action 'none'; frame-ancestors 'none'",
  "cross-origin-resource-policy": "same-origin",
  "referrer-policy": "no-referrer",
};
const FILES: Record<string, [type: string, text: string]> = {
  "/": ["text/html", html],
  "/page.js": ["text/javascript", script],
  "/page.css": ["text/css", style],
};

/** The paths of the page's files, which hold nothing of a model. */
export const PAGE_PATHS: readonly string[] = Object.keys(FILES);

/** One of its files. */
export function pageFile(path: string): Response {
  const [type, text] = FILES[path];
  return new Response(text, { headers: { ...HEADERS, "content-type": `${type}; charset=utf-8` } });
}

/**
 * A vote as a row of preferences: the conversation, and two answers to it.
 *
 * @returns JSON in one line, as `train` reads it; keys beside its columns say which model answered.
 * @throws {ApiError} 400 for what is no vote.
 */
export function preferenceRow({ json }: RequestFields): string {
  const { messages, chosen, rejected, chosen_model, rejected_model } = json;
  const isMessage = (value: unknown) => {
    const { role, content } = (value ?? {}) as Record<string, unknown>;
    return typeof role === "string" && typeof content === "string";
  };
  if (!Array.isArray(messages) || messages.length === 0 || !messages.every(isMessage)) {
    throw ApiError.expected("messages", "a list of messages of text", messages);
  }
  for (const [param, value] of Object.entries({ chosen, rejected, chosen_model, rejected_model })) {
    if (typeof value !== "string") throw ApiError.expected(param, "text", value);
  }
  if (chosen === rejected) throw new ApiError(400, "chosen and rejected are the same", { param: "chosen" });
  const prompt = messages.map(({ role, content }) => ({ role, content }));
  const whole = (content: unknown) => [...prompt, { role: "assistant", content }];
  return JSON.stringify({ chosen: whole(chosen), rejected: whole(rejected), chosen_model, rejected_model });
}
