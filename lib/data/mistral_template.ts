import { basename } from "node:path";
import type { TrainConfig } from "../config/schema.ts";

/**
 * Renders as the chat template that SimPO's and SimPER's programs put in the place of a Mistral model's own
 * (`MISTRAL_CHAT_TEMPLATE` in scripts/run_simper.py of tengxiao1/SimPER): a system message is folded into the first
 * message after it, a user's turn is `[INST] text [/INST]`, an assistant's ` text </s>`. There is no BOS; roles of
 * another name leave no trace. It mentions "system", so rows without a system message get an empty one, which leaves
 * no trace either.
 */
export const MISTRAL_CHAT_TEMPLATE = `
{%- set turns = messages %}
{%- set opening = "" %}
{%- if messages[0].role == "system" %}
  {%- set turns = messages[1:] %}
  {%- set opening = messages[0].content.strip() + "\\n\\n" %}
{%- endif %}
{%- for turn in turns %}
  {%- set text = ((opening if loop.first else "") + turn.content).strip() %}
  {%- if turn.role == "user" %}
    {{- "[INST] " + text + " [/INST]" }}
  {%- elif turn.role == "assistant" %}
    {{- " " + text + " " + eos_token }}
  {%- endif %}
{%- endfor -%}
`;

/** What a log says where the template is put in place of the model's own. */
export const FORCED =
  'the model\'s name has "mistral" in it: its chat template is replaced, as in the published program; ' +
  `chat_template wins over both`;

type Named = Pick<TrainConfig, "modelNameOrPath" | "chatTemplate">;

/**
 * Whether the published program would replace the model's chat template. It looks for "mistral" in all of the path or
 * Hub name; here only the model's own name counts, since the folders above a model say nothing of it.
 */
export function forcesMistralTemplate({ modelNameOrPath, chatTemplate }: Named): boolean {
  const [name] = basename(modelNameOrPath).split("@");
  return chatTemplate === undefined && name.toLowerCase().includes("mistral");
}

/** The chat template that wins over the model's own, if there is one. */
export function chatTemplateOf(config: Named): string | undefined {
  return forcesMistralTemplate(config) ? MISTRAL_CHAT_TEMPLATE : config.chatTemplate;
}
