import { nearest } from "../errors.ts";
import { show } from "../text/json.ts";

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

/** For whom the rows are. */
export interface TaskOptions {
  /** Whether the loss looks at `rejected`. */
  usesRejected: boolean;
  /** Whether the loss reads single responses that were judged, with `label`. */
  isJudged?: boolean;
  /** Whether a loaded model measures them: then there is neither `loss_type` nor `column_mapping` to be set. */
  isMeasured?: boolean;
}

/**
 * Why a row without the response `missing` cannot be used: what its set is for, where its columns are those of a
 * well-known task, and what to do.
 */
export function taskOf(
  row: Readonly<Record<string, unknown>>,
  missing: string,
  { usesRejected, isMeasured = false }: TaskOptions,
): string {
  const renaming = (mapping: string) =>
    isMeasured ? `rename the keys: {${mapping}}` : `set column_mapping: {${mapping}}`;
  const names = Object.keys(row).filter((name) => row[name] !== undefined && row[name] !== null);
  const has = (...all: string[]) => all.every((name) => names.includes(name));
  const found = names.length > 0 ? names.slice(0, 12).map(show).join(", ") : "no keys at all";
  const expected = `expected a key "${missing}", found ${found}${names.length > 12 ? ", ..." : ""}`;
  const near = nearest(missing, names);
  const nearName = near === undefined
    ? ""
    : `; did you mean ${show(near)}? Then ${renaming(`${yaml(near)}: ${missing}`)}`;
  const nulls = Object.keys(row).filter((name) => row[name] === null);
  const nullText = nulls.includes(missing) ? ` ("${missing}" is null)` : "";

  const pair = usesRejected ? PAIRS.find(([chosen, rejected]) => has(chosen, rejected)) : undefined;
  if (pair) {
    const prompt = has("prompt") ? undefined : PROMPTS.find((name) => has(name));
    const mapping = [
      ...prompt === undefined ? [] : [`${yaml(prompt)}: prompt`],
      ...pair[0] === "chosen" ? [] : [`${yaml(pair[0])}: chosen`],
      ...pair[1] === "rejected" ? [] : [`${yaml(pair[1])}: rejected`],
    ];
    return `${expected}${nullText}; these are pairs under other names: ${renaming(mapping.join(", "))}`;
  }
  const say = (kind: string, fix: string) => `${expected}${nullText}: this is a set of ${kind}: ${fix}`;
  const pairs = "a pair needs a chosen and a rejected response to each prompt";
  if (usesRejected && has("completions", "labels")) {
    return say("responses whose steps are judged (stepwise supervision)", pairs);
  }
  if (usesRejected && has("completion", "label")) {
    return say(
      "single judged responses, without pairs (KTO)",
      `${pairs}; write one that is true and one that is false for it${
        isMeasured ? "" : ", or train with loss_type: kto"
      }`,
    );
  }
  const several = ["responses", "completions", "answers", "candidates"].find((name) => has(name));
  if (several !== undefined) {
    const scores = ["scores", "rewards", "ratings", "ranks", "rank"].find((name) => has(name));
    return say(
      `several responses to a prompt${scores === undefined ? "" : " with scores (for a reward model)"}`,
      `choose two of ${show(several)}${
        scores === undefined ? "" : ` by ${show(scores)}`
      }, and write them as chosen and rejected`,
    );
  }
  const [single, isRead] = singleOf(has) ?? [];
  if (single !== undefined && (single !== "chosen" || !nulls.includes("rejected"))) {
    const how = isRead ? "" : renaming(`${yaml(single)}: chosen`);
    if (!usesRejected) {
      return `${expected}${nullText}; to ${isMeasured ? "measure" : "train on"} ${show(single)}, ${how}`;
    }
    if (single !== "chosen" || nearName === "") {
      const user = isMeasured ? "logProbabilities measures" : "loss_type: sft trains on";
      const fix = `${user} ${show(single)}${how && `: ${how}`}`;
      return say("single responses (SFT)", `${pairs}; ${fix}`);
    }
  }
  const isPrompts = ["prompt", ...PROMPTS].some((name) => has(name)) && nearName === "";
  if (isPrompts && !has("chosen")) return say("prompts alone", pairs);
  if (has("text") && nearName === "") return say("texts for language modelling", pairs);
  return `${expected}${nullText}${nearName}`;
}

/**
 * The column of a set's one response to each prompt, and whether a run without rejected responses reads it under its
 * own name.
 */
function singleOf(has: (...names: string[]) => boolean): [name: string, isRead: boolean] | undefined {
  if (has("messages") || has("conversations")) return [has("messages") ? "messages" : "conversations", true];
  if (has("completion")) return ["completion", true];
  if (has("instruction", "output")) return ["output", true];
  const name = ["response", "answer", "output"].find((name) => has(name));
  if (name !== undefined) return [name, false];
  return has("chosen") && !has("rejected") ? ["chosen", true] : undefined;
}

/** A key of YAML: quoted where white space would go, or signs be read. */
const yaml = (name: string) => /^[A-Za-z_][\w.-]*$/.test(name) ? name : JSON.stringify(name);
