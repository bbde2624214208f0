import { parseJson } from "./python_json.ts";
import { UserError } from "../errors.ts";
import { isObject, show } from "../text/json.ts";

/**
 * What roles are called in ShareGPT's messages, to transformers' names: as LLaMA-Factory and axolotl read them (TRL
 * renames the keys alone, and no template knows the role `human`).
 */
const ROLES: Readonly<Record<string, string>> = {
  human: "user",
  user: "user",
  gpt: "assistant",
  assistant: "assistant",
  system: "system",
  tool: "tool",
  observation: "tool",
  function_response: "tool",
};
const FUNCTION_CALL = "function_call";

/** A list of messages `{from, value}`, or one message alone, as `[{role, content}, ...]`; any other value as it is. */
export function asMessages(value: unknown, key: string): unknown {
  if (isObject(value) && ("role" in value || "from" in value)) return [asMessage(value, key)];
  if (!Array.isArray(value)) return value;
  // Most lists are in transformers' form, and stay the same list.
  if (!value.some((message) => isObject(message) && "from" in message)) return value;
  return value.map((message, i) => asMessage(message, `${key}[${i}]`));
}

function asMessage(message: unknown, at: string): unknown {
  if (!isObject(message) || !("from" in message) || "role" in message) return message;
  const { from, value, ...rest } = message;
  if (from === FUNCTION_CALL) {
    return { role: "assistant", content: "", tool_calls: toolCalls(value, `${at}.value`), ...rest };
  }
  if (typeof from !== "string" || !Object.hasOwn(ROLES, from)) {
    const known = [...Object.keys(ROLES), FUNCTION_CALL].join(", ");
    throw new UserError(`${at}.from: expected one of ${known}, found ${show(from)}`);
  }
  return { role: ROLES[from], content: value, ...rest };
}

/** The calls of a `function_call`, JSON of `{name, arguments}` or of a list of them. */
function toolCalls(value: unknown, at: string): unknown[] {
  let parsed = value;
  try {
    if (typeof value === "string") parsed = parseJson(value);
  } catch {
    // The message below shows the text.
  }
  const calls: unknown[] = [parsed].flat();
  const isCall = (call: unknown) => isObject(call) && typeof call.name === "string" && "arguments" in call;
  if (calls.length === 0 || !calls.every(isCall)) {
    throw new UserError(
      `${at}: expected JSON such as {"name": "f", "arguments": {}}, or a list of such, found ${show(value)}`,
    );
  }
  return calls.map((call) => ({ type: "function", function: call }));
}
