/** What would make a run fit into the memory that is there. */
import { adapt } from "../adapters/adapt.ts";
import { chooseModules } from "../adapters/modules.ts";
import { keyOf, type TrainConfig } from "../config/schema.ts";
import { placeOf } from "../distributed/grid.ts";
import { UserError } from "../errors.ts";
import { formatBytes } from "../text/format_bytes.ts";
import { type Loss, usesBatch, wgslOf } from "../losses/loss.ts";
import { netOf } from "../models/models.ts";
import { lion } from "../optimizers/lion.ts";
import { areInBytes, type Share } from "../parameters/layout.ts";
import { totalSteps } from "../training/sampler.ts";
import { storeAs, storeFrozen } from "./frozen_storage.ts";
import type { Prepared } from "./prepare.ts";
import {
  type Adapter,
  bytesOfParameters,
  bytesOfRun,
  optimizerOf,
  type Planned,
  planRun,
  samplerOf,
  updatesEarly,
  type Workload,
} from "./plan.ts";

/** A changed configuration, in a run file's words, and the bytes that it would take. */
export interface Alternative {
  change: Partial<TrainConfig>;
  keys: string;
  bytes: number;
  /** Bytes of weights, gradients and moments in it. */
  parameterBytes: number;
  /** Whether its numbers are others, rounded where they are stored. */
  rounds: boolean;
  /** Whether adapters are trained in place of the weights. */
  adapts: boolean;
}

/** How the run would be with another configuration. */
export type WorkloadOf = (config: TrainConfig) => Workload;

/** The workload of data that have been read, with other batches, and other bits than those of `before`. */
export const withBatchesOf =
  (workload: Workload & Pick<Prepared, "adapter">, before: TrainConfig): WorkloadOf => (config) => {
    const sampler = samplerOf(config, workload.sampler.pairs);
    const changed = { ...workload, sampler, totalSteps: totalSteps(sampler) };
    return config.loadIn4bit === before.loadIn4bit ? changed : withAdapters(changed, config);
  };

/** With the model that `withQuantized` asks for. */
function withAdapters(
  { adapter, ...workload }: Workload & Pick<Prepared, "adapter">,
  config: TrainConfig,
): Workload {
  const { model, reference } = workload;
  const adapted = () => {
    const net = netOf(model);
    adapt(net, adapter ?? chooseModules(net, model, config));
    return net;
  };
  const net = storeFrozen(adapted(), model, config);
  // Another model stays as it is stored: its shape is not known here.
  const isOwn = reference && reference.folder === undefined;
  return {
    ...workload,
    net,
    ...(isOwn && {
      reference: { ...reference, net: storeAs(net, reference.isAdapted ? adapted() : netOf(model)) },
    }),
  };
}

/**
 * Changes that take less memory and leave the numbers as they are, since a step has the same pairs; the last is all. A
 * loss that looks at the whole micro-batch is another one in smaller ones.
 */
function savings(config: TrainConfig, loss: Loss, ranks?: Share): Partial<TrainConfig>[] {
  const perPass = config.perDeviceTrainBatchSize;
  const checkpointing: Partial<TrainConfig> = config.gradientCheckpointing
    ? {}
    : { gradientCheckpointing: true };
  const single: Partial<TrainConfig> = usesBatch(wgslOf(loss)) ? {} : {
    ...(perPass > 1 && {
      perDeviceTrainBatchSize: 1,
      gradientAccumulationSteps: config.gradientAccumulationSteps * perPass,
    }),
    ...(config.doEval && config.perDeviceEvalBatchSize > 1 && { perDeviceEvalBatchSize: 1 }),
  };
  const stages = config.pipelineParallelSize;
  // Stages add up their gradients themselves, and share moments where there are several pipelines.
  const zeroStage = stages > 1 ? 1 : 2;
  const isParted = ranks !== undefined && placeOf(ranks, stages).data.size > 1;
  const shared: Partial<TrainConfig> = isParted && config.zeroStage < zeroStage ? { zeroStage } : {};
  const changes = new Map(
    [shared, checkpointing, single, { ...shared, ...checkpointing, ...single }]
      .map((change) => [keysIn(change), change]),
  );
  changes.delete("");
  return [...changes.values()];
}

/**
 * What may be rounded that is not: moments and kept activations to bfloat16 (Lion's moment is float32 or bytes); then
 * moments to bytes, and weights. Those that change anything, the last of them all.
 */
function roundings(config: TrainConfig): Partial<TrainConfig>[] {
  const { rule, trained, moments } = optimizerOf(config);
  const activations: Partial<TrainConfig> = config.activationDtype === "float32"
    ? { activationDtype: "bfloat16" }
    : {};
  const isIn8Bits = areInBytes(moments);
  const isLion = rule === lion;
  const isIn16Bits = Object.values(moments).every((storage) => storage !== "f32");
  const some: Partial<TrainConfig> = {
    ...(!isLion && !isIn16Bits && {
      optim: "adamw_anyprecision",
      optimArgs: "momentum_dtype=bfloat16,variance_dtype=bfloat16",
    }),
    ...activations,
  };
  const all: Partial<TrainConfig> = {
    ...(!(isIn8Bits && trained === "bf16") &&
      { optim: isLion ? "lion_8bit" : "adamw_8bit", optimArgs: "bf16_stochastic_round=True" }),
    ...activations,
  };
  const changes = new Map([some, all].map((change) => [keysIn(change), change]));
  changes.delete("");
  return [...changes.values()];
}

/** Frozen matrices in four bits beside adapters (QLoRA), on top of what keeps the numbers; none where it is so. */
function withQuantized(config: TrainConfig, loss: Loss, ranks?: Share): Partial<TrainConfig> | undefined {
  const isFrozenAlready = config.loadIn4bit || config.fromScratch ||
    (config.unfrozenParameters ?? []).length > 0;
  if (isFrozenAlready) return undefined;
  return {
    ...savings(config, loss, ranks).at(-1),
    ...(!config.usePeft && { usePeft: true, loraTargetModules: "all-linear" }),
    ...(config.loadIn8bit && { loadIn8bit: false }),
    loadIn4bit: true,
  };
}

/**
 * What a run takes with `change`.
 *
 * @param ranks which of how many of the run it is planned for.
 */
export function alternative(
  change: Partial<TrainConfig>,
  config: TrainConfig,
  adapter: Adapter,
  workloadOf: WorkloadOf,
  ranks?: Share,
): Alternative {
  const changed = { ...config, ...change };
  const planned = planRun(workloadOf(changed), changed, adapter, ranks);
  return {
    change,
    keys: keysIn(change),
    bytes: bytesOfRun(planned),
    parameterBytes: bytesOfParameters(planned),
    rounds: ["optimArgs", "activationDtype", "loadIn4bit"].some((field) => field in change),
    adapts: "usePeft" in change,
  };
}

/**
 * All `savings` with what they take and, where none brings the run below `limit` bytes, `roundings` on top of them
 * all, until one does; the last alone where even so the parameters do not fit, since none of the others is of use
 * then.
 */
export function alternatives(
  config: TrainConfig,
  adapter: Adapter,
  limit: number,
  workloadOf: WorkloadOf,
  ranks?: Share,
): Alternative[] {
  const tried = (change: Partial<TrainConfig>) => alternative(change, config, adapter, workloadOf, ranks);
  const [changes, rounded] = [savings(config, workloadOf(config).loss, ranks), roundings(config)];
  const most = { ...changes.at(-1), ...rounded.at(-1) };
  if (Object.keys(most).length === 0) return [];
  const least = tried(most);
  if (least.parameterBytes > limit) return [least];
  const found = changes.map(tried);
  for (const change of rounded) {
    if (found.some(({ bytes }) => bytes <= limit)) break;
    found.push(change === rounded.at(-1) ? least : tried({ ...changes.at(-1), ...change }));
  }
  return found;
}

/** What remains where none of the `alternatives` fits: see `withQuantized`. */
export function lastAlternative(
  config: TrainConfig,
  adapter: Adapter,
  workloadOf: WorkloadOf,
  ranks?: Share,
): Alternative[] {
  const change = withQuantized(config, workloadOf(config).loss, ranks);
  return change ? [alternative(change, config, adapter, workloadOf, ranks)] : [];
}

const keysIn = (change: Partial<TrainConfig>) =>
  Object.entries(change).map(([field, value]) => `${keyOf(field as keyof TrainConfig)}: ${value}`).join(", ");

/**
 * What would make a plan of too many bytes fit into `limit`: a line each, with what it takes.
 * @param parameterBytes of weights, gradients and moments as the run is.
 */
export function adviceFor(
  changes: readonly Alternative[],
  config: TrainConfig,
  limit: number,
  parameterBytes: number,
): string {
  const least = Math.min(parameterBytes, ...changes.map(({ parameterBytes }) => parameterBytes));
  if (least > limit) {
    return `weights, gradients and moments alone take ${
      formatBytes(least)
    } or more: only a smaller model fits`;
  }
  const lines = changes.map(({ keys, bytes, rounds, adapts }) => {
    const fits = bytes <= limit ? "fits" : "does not fit";
    const notes = [
      ...rounds ? [", rounds what is stored"] : [],
      ...adapts ? [", trains adapters in place of the weights"] : [],
    ];
    return `  ${keys}: ${formatBytes(bytes)}, ${fits}${notes.join("")}`;
  });
  const isWhole = changes.some(({ bytes, adapts }) => bytes <= limit && !adapts);
  const others = isWhole ? [] : otherTraining(config);
  return ["what would help, beside a smaller max_length:", ...lines, ...others].join("\n");
}

/** What keeps less of each weight and is another run, a line where there is any. */
function otherTraining(config: TrainConfig): string[] {
  if (config.usePeft) return [];
  const ways = [
    ...(optimizerOf(config).rule === lion ? [] : ["optim: lion_8bit"]),
    ...(updatesEarly(config) ? [] : ["max_grad_norm: 0 with one pass a step"]),
  ];
  return ways.length > 0
    ? [`  or other training of all weights, which takes less: ${ways.join(", or ")}`]
    : [];
}

/** Bytes by purpose, for people: of the run, and of its reference model before that. */
export const planTable = ({ decoder, reference }: Planned): string =>
  reference
    ? `${decoder.plan.table()}\nthe reference model, whose memory is given back before the first ` +
      `step\n${reference.plan.table()}`
    : decoder.plan.table();

/**
 * Refuses a plan that is larger than `limit` bytes.
 *
 * @param ranks which of how many of the run it is.
 * @throws {UserError} with the plan and the changes that would make it fit.
 */
export function checkFits(
  planned: Planned,
  workload: Workload & Pick<Prepared, "adapter">,
  config: TrainConfig,
  adapter: Adapter,
  limit: number,
  ranks?: Share,
): void {
  const bytes = bytesOfRun(planned);
  if (bytes <= limit) return;
  const workloadOf = withBatchesOf(workload, config);
  const changes = alternatives(config, adapter, limit, workloadOf, ranks);
  if (!changes.some((change) => change.bytes <= limit)) {
    changes.push(...lastAlternative(config, adapter, workloadOf, ranks));
  }
  throw new UserError(
    `this run needs ${formatBytes(bytes)}, and ${formatBytes(limit)} are there:\n${planTable(planned)}\n` +
      `${adviceFor(changes, config, limit, bytesOfParameters(planned))}\ndevice_memory sets the limit`,
    1,
    "OUT_OF_MEMORY",
  );
}
