/** Which parameters of a model a run trains. */
import { adapt } from "../adapters/adapt.ts";
import { chooseModules } from "../adapters/modules.ts";
import { checkAdapter, type OpenAdapter } from "../adapters/open.ts";
import type { AdapterKeys, AdapterPlan } from "../adapters/settings.ts";
import type { TrainConfig } from "../config/schema.ts";
import { namePattern, namesFitting, PATIENCE } from "../config/name_pattern.ts";
import { UserError } from "../errors.ts";
import type { Net } from "../graph/net.ts";
import type { ParameterSpec } from "../parameters/parameter.ts";
import { show } from "../text/json.ts";
import type { ModelConfig } from "../models/architecture.ts";
import { netOf } from "../models/models.ts";

/**
 * What a model computes, with the roles that `unfrozen_parameters` gives.
 * @throws {UserError} (status 2) where its patterns fit no parameter, or a part of one alone.
 */
export function netToTrain(model: ModelConfig, patterns: readonly string[] | undefined): Net {
  const net = netOf(model);
  if (patterns && patterns.length > 0) freezeAllBut(net.parameters, patterns);
  return net;
}

/**
 * What a run trains of a model: weights, or, with `use_peft`, adapters of it.
 *
 * @param adapter those that it goes on with.
 * @throws {UserError} (status 2) for keys that fit nothing, and for adapters of another model.
 */
export function trainedNet(
  model: ModelConfig,
  config: AdapterKeys & Pick<TrainConfig, "usePeft" | "unfrozenParameters">,
  adapter?: OpenAdapter,
): { net: Net; adapter?: AdapterPlan } {
  if (!config.usePeft) return { net: netToTrain(model, config.unfrozenParameters) };
  const net = netOf(model);
  if (adapter) checkAdapter(adapter, net);
  const plan = adapter ?? chooseModules(net, model, config);
  adapt(net, plan);
  return { net, adapter: plan };
}

function freezeAllBut(parameters: readonly ParameterSpec[], patterns: readonly string[]): void {
  const problems: string[] = [];
  const expressions = patterns.map(namePattern);
  const names = parameters.flatMap(({ parts }) => parts.map(({ name }) => name));
  const fitting = namesFitting(expressions, names);
  if (fitting.length < patterns.length) {
    throw new UserError(
      `unfrozen_parameters: ${show(patterns[fitting.length])} has not come to an end after ${
        PATIENCE / 1000
      } s: stopped. ` +
        "Look for a repetition within a repetition, such as (.+)+",
      2,
    );
  }
  for (const [i, pattern] of patterns.entries()) {
    if (fitting[i].size > 0) continue;
    const some = [names[0], names[1], names.at(-1)].map(show).join(", ");
    const usual = new RegExp(`^(?:${pattern})`, "u");
    const why = usual.source !== expressions[i].source && namesFitting([usual], names)[0]?.size
      ? "; a full stop stands for itself here, as in axolotl: .+ is any text"
      : "";
    problems.push(`${show(pattern)} fits none of the ${names.length} parameters: ${some} are some${why}`);
  }
  const named = new Set(fitting.flatMap((names) => [...names]));
  for (const parameter of parameters) {
    const [one, other] = [true, false].map((fits) =>
      parameter.parts.filter(({ name }) => named.has(name) === fits)
    );
    parameter.role = one.length > 0 ? "trained" : "frozen";
    if (one.length === 0 || other.length === 0) continue;
    const list = (parts: typeof one) => parts.map(({ name }) => name).join(" and ");
    problems.push(
      `${list(one)} would be trained and ${
        list(other)
      } not: they are kept and trained as one here, so name all of them or none`,
    );
  }
  if (problems.length === 0) return;
  const shown = problems.slice(0, SHOWN);
  if (problems.length > SHOWN) shown.push(`and ${problems.length - SHOWN} more`);
  throw new UserError(shown.map((problem) => `unfrozen_parameters: ${problem}`).join("\n"), 2);
}

/** Mistakes that are told: one in a pattern comes up in every layer. */
const SHOWN = 8;
