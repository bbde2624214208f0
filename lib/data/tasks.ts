import { nearest } from "../errors.ts";
import { show } from "../json.ts";

/** Names of the chosen and of the rejected response in public preference sets, pairwise. */
const PAIRS: readonly (readonly [chosen: string, rejected: string])[] = [
  ["chosen_response", "rejected_response"],
  ["response_chosen", "response_rejected"],
  ["chosen_answer", "rejected_answer"],
  ["chosen_text", "rejected_text"],
  ["chosen_output", "rejected_output"],
  ["answer_chosen", "answer_rejected"],
  ["response_j", "response_k"],
  ["preferred", "dispreferred"],
  ["preferred_response", "dispreferred_response"],
  ["preferred_output", "non_preferred_output"],
  ["accepted", "rejected"],
  ["accept", "reject"],
  ["chosen", "reject"],
  ["positive", "negative"],
  ["good", "bad"],
  ["better", "worse"],
  ["winner", "loser"],
  ["win", "lose"],
  ["y_w", "y_l"],
];
const PROMPTS = ["question", "query", "instruction", "input", "user_input", "context", "post", "x"];

/**
 * Why a row without the response `missing` cannot be used: what its set is for, where its columns are those of a well-known
 * task, and what to do.
 */
export function taskOf(row: Readonly<Record<string, unknown>>, missing: string, usesRejected: boolean): string {
  const names = Object.keys(row).filter((name) => row[name] !== undefined && row[name] !== null);
  const has = (...all: string[]) => all.every((name) => names.includes(name));
  const isList = (name: string) => Array.isArray(row[name]);
  const found = names.length > 0 ? names.slice(0, 12).map((name) => show(name)).join(", ") : "no keys at all";
  const expected = `expected a key "${missing}", found ${found}${names.length > 12 ? ", ..." : ""}`;
  const nulls = Object.keys(row).filter((name) => row[name] === null);
  const nullText = nulls.includes(missing) ? ` ("${missing}" is null)` : "";

  const pair = usesRejected ? PAIRS.find(([chosen, rejected]) => has(chosen, rejected)) : undefined;
  if (pair) {
    const prompt = has("prompt") ? undefined : PROMPTS.find((name) => has(name));
    const mapping = [
      ...prompt === undefined ? [] : [`${prompt}: prompt`],
      ...pair[0] === "chosen" ? [] : [`${pair[0]}: chosen`],
      ...pair[1] === "rejected" ? [] : [`${pair[1]}: rejected`],
    ];
    return `${expected}${nullText}; these are pairs under other names: set column_mapping: {${mapping.join(", ")}}`;
  }
  const pairs = "a pair needs a chosen and a rejected response to each prompt";
  if (usesRejected && (has("completion", "label") || has("completions", "labels"))) {
    const kind = has("completions") ? "of steps (stepwise supervision)" : "without pairs (KTO)";
    return `${expected}${nullText}: this is a set of judged responses ${kind}: ${pairs}`;
  }
  const scored = ["responses", "completions", "answers", "candidates"].find((name) => has(name) && isList(name));
  if (usesRejected && scored !== undefined) {
    return `${expected}${nullText}: this is a set of several responses to a prompt${
      ["scores", "rewards", "ratings", "rank", "ranks"].some((name) => has(name)) ? " with scores (for a reward model)" : ""
    }: choose two of ${show(scored)} for each prompt, and write them as chosen and rejected`;
  }
  const single = ["messages", "completion", "output", "response", "answer"].find((name) => has(name));
  if (usesRejected && (has("chosen") ? missing !== "rejected" : true) && single !== undefined) {
    const isRead = single === "messages" || (single === "completion" && has("prompt")) ||
      (single === "output" && has("instruction"));
    const fix = isRead
      ? "loss_type: sft trains on it"
      : `loss_type: sft trains on it with column_mapping: {${single}: ${has("prompt") || true ? "chosen" : ""}}`;
    return `${expected}${nullText}: this is a set of single responses (SFT): ${pairs}; ${fix}`;
  }
  if (usesRejected && has("chosen") && missing === "rejected" && !nulls.includes("rejected")) {
    return `${expected}${meant(missing, names)}: this is a set of single responses (SFT) unless rejected has another name: ` +
      "loss_type: sft trains on chosen, column_mapping: {NAME: rejected} names the other";
  }
  if (!usesRejected && single !== undefined && !isList(single)) {
    return `${expected}${nullText}; to train on ${show(single)}, set column_mapping: {${single}: chosen}`;
  }
  if (has("prompt") && !names.some((name) => meant(missing, [name]) !== "")) {
    return `${expected}${nullText}: this is a set of prompts alone: ${pairs}`;
  }
  if (has("text") && names.length <= 3) {
    return `${expected}${nullText}: this is a set of texts for language modelling: ${pairs}`;
  }
  return `${expected}${nullText}${meant(missing, names)}`;
}

function meant(missing: string, names: readonly string[]): string {
  const near = nearest(missing, names);
  return near === undefined ? "" : `; did you mean ${show(near)}? Set column_mapping: {${near}: ${missing}}`;
}
