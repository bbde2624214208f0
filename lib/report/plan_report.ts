import type { TrainConfig } from "../config/schema.ts";
import type { Pair } from "../data/pair.ts";
import { estimatedAlternatives, type EstimatedPlan, type StepCost, stepCost } from "../planning/estimate.ts";
import { formatBytes } from "../text/format_bytes.ts";
import { unitOf, usesReference } from "../losses/loss.ts";
import { DEFINITIONS, lossName, namesOf } from "../losses/losses.ts";
import { type Adapter, bytesOfParameters, bytesOfRun } from "../planning/plan.ts";
import { adviceFor, planTable, type WorkloadOf } from "../planning/advice.ts";
import { type RankPlan, type Rates, stepTime, stepWork } from "../planning/ranks.ts";

/** What a plan is made for. */
export interface PlanReport {
  config: TrainConfig;
  workloadOf: WorkloadOf;
  plan: EstimatedPlan & Partial<Pick<RankPlan, "ranks">>;
  /** Pairs that stand for all where operations are counted. */
  sample: readonly Pair[];
  /** Whether pairs are as the data have them; if not, they are as long as the run file allows. */
  measured: boolean;
  /** Whether the number of pairs is known. */
  countKnown: boolean;
  adapter: Adapter;
  /** Bytes of device memory, where they are known. */
  memory?: number;
  /** Bytes of the machine's memory that the process takes beside the plan. */
  beside: number;
  /** Whether the device is a driver on the processor: what the plan takes is the process's too. */
  isSoftware?: boolean;
  /** What the two are taken from, for people. */
  device: string;
  /** Of a run of several, of which `plan` is the largest. */
  ranks?: {
    plans: readonly RankPlan[];
    /** Passes of each in a step. */
    passes: number;
    /** Where they are known, the time of a step is told. */
    rates?: Rates;
  };
}

/**
 * A plan as text for people: a line each for model, data, batch, steps and work, bytes by purpose, and whether it
 * fits.
 */
export function planReport(report: PlanReport): { text: string; fits: boolean } {
  const { config, workloadOf, plan: { planned }, sample, measured, countKnown } = report;
  const workload = workloadOf(config);
  const { model, sampler } = workload;
  const { whole: parameters, decoder: { capacity } } = planned;
  const cost = stepCost(workload, config, sample);
  const { perDeviceTrainBatchSize: perPass, gradientAccumulationSteps: passes, numGpus } = config;
  const most = measured ? "about " : "at most ";
  const stepsKnown = countKnown || config.maxSteps > 0;
  const unit = unitOf(workload.loss);
  const lines = [
    [
      "model",
      `${config.modelNameOrPath}: ${model.modelType}, ${count(parameters.count)} parameters` +
      (parameters.trainedCount < parameters.count
        ? `, ${count(parameters.trainedCount)} of them trained`
        : ""),
    ],
    ["data", dataLine()],
    ["loss", lossLine()],
    [
      "effective batch",
      `${perPass * passes * numGpus} ${unit} = ${perPass} (per_device_train_batch_size) x ` +
      `${passes} (gradient_accumulation_steps) x ${numGpus} (num_gpus)`,
    ],
    [
      "steps",
      stepsKnown
        ? count(workload.totalSteps)
        : "not known without the data: --num_pairs=N or --data tells, or max_steps",
    ],
    ["tokens a step", `${most}${count(cost.tokens)}, at most ${count(capacity.tokens)} a pass`],
    ["operations", `${most}${cost.flops.toExponential(3)} a step, floating-point, forward and backward`],
  ];
  if (stepsKnown) lines.push(["", `${most}${cost.flopsInAll.toExponential(3)} in all`]);
  if (cost.reference) lines.push(["reference", referenceLine(cost.reference)]);
  if (report.ranks) lines.push(...rankLines(report, cost));
  const { fits, lines: verdictLines } = verdict(report);
  const text = [
    ...lines.map(([name, text]) => `${name.padEnd(15)} ${text}`),
    "",
    "bytes by purpose",
    planTable(planned),
    "",
    ...verdictLines,
  ].join("\n");
  return { text, fits };

  function lossLine(): string {
    const name = lossName(config.lossType);
    const titles = namesOf(config.lossType).map((name) => DEFINITIONS[name].title).join(" and ");
    const against = !usesReference(workload.loss)
      ? "without a reference"
      : `against ${config.refModel ?? "the model that the run begins with"}`;
    return `${name}: ${titles}, ${against}`;
  }

  function referenceLine({ pairs, flops }: NonNullable<StepCost["reference"]>): string {
    const [of, operations, share] = countKnown
      ? [`${count(pairs)} ${unit}`, pairs * flops, `of the steps'`]
      : [`every ${unit.slice(0, -1)}`, flops, "of what it takes in a step"];
    const whole = countKnown ? cost.flopsInAll : cost.flops / cost.pairs;
    return `${of} once before the first step, ${most}${operations.toExponential(3)} operations` +
      `${countKnown ? "" : " each"}, ${Number((100 * operations / whole).toPrecision(2))} % ${share}; ` +
      `${formatBytes(planned.reference!.plan.bytes)}, given back before it`;
  }

  function dataLine(): string {
    if (measured) return `${count(sampler.pairs)} ${unit}, as read`;
    const known = countKnown ? `${count(sampler.pairs)} ${unit}` : "not read";
    return `${known}: every ${unit.slice(0, -1)} is taken for the longest that max_length allows, ` +
      `${count(cost.tokens / cost.pairs)} tokens, nothing shared`;
  }
}

/** What ranks exchange in a step and, where rates are known, how long it is. */
function rankLines(
  { config, ranks, sample }: PlanReport,
  cost: StepCost,
): [name: string, text: string][] {
  const { plans, passes, rates } = ranks!;
  const { size } = plans[0].ranks;
  const { pipelineParallelSize: stages } = config;
  const bytes = plans.map(({ planned }) => bytesOfRun(planned));
  const least = Math.min(...bytes);
  const own = least === Math.max(...bytes)
    ? `the plan is that of each`
    : `the plan is that of the largest, the smallest takes ${formatBytes(least)}`;
  const work = stepWork(plans, config, cost, passes, sample);
  const { traffic } = work;
  const parts = ([
    ["gradients", "gradients"],
    ["weights", "weights"],
    ["boundaries", "what is between stages"],
  ] as const).filter(([of]) => traffic[of] > 0).map(([of, what]) => `${formatBytes(traffic[of])} of ${what}`);
  const lines: [string, string][] = [
    [
      "ranks",
      `${size}${
        stages > 1 ? `, pipelines of ${stages}` : ""
      }, ${passes} of the passes of a step each; ${own}`,
    ],
    [
      "traffic",
      `${parts.join(" and ") || "nothing"} a step and rank, sent and received`,
    ],
  ];
  if (!rates) return lines;
  const time = stepTime(work, size, rates);
  const seconds = (value: number) => `${Number(value.toPrecision(3))} s`;
  return [
    ...lines,
    [
      "time of a step",
      `about ${seconds(time.total)}: ${seconds(time.computing)} of computing; the exchange takes ` +
      `${seconds(time.link)} on the link and ${seconds(time.host)} on the host, side by side; ` +
      `${seconds(time.exposed)} of it are not hidden`,
    ],
    [
      "",
      `one GPU takes ${seconds(time.alone)}: ${size} reach ${Math.round(100 * time.efficiency)} % of as many`,
    ],
  ];
}

/** Buffers that are too large: so many are named. */
const SHOWN = 8;

/** Whether the run fits, as far as that is known, and what to say of it. */
function verdict(report: PlanReport): { fits: boolean; lines: string[] } {
  const { config, workloadOf, plan: { planned, tooLarge }, measured, adapter, memory, device } = report;
  const { beside, isSoftware = false } = report;
  const lines: string[] = [];
  if (tooLarge.length > 0) {
    lines.push(
      `does not fit: ${device} has buffers of ${formatBytes(adapter.largestBuffer)} at most, and larger are`,
      ...tooLarge.slice(0, SHOWN).map(({ name, bytes }) => `  ${name}: ${formatBytes(bytes)}`),
      ...(tooLarge.length > SHOWN ? [`  and ${tooLarge.length - SHOWN} more`] : []),
    );
  }
  const bytes = bytesOfRun(planned);
  const [needed, what] = isSoftware
    ? [bytes + beside, `the process takes ${formatBytes(bytes + beside)}`]
    : [bytes, formatBytes(bytes)];
  const isRoomy = memory === undefined || needed <= memory;
  if (memory === undefined) {
    lines.push(
      `${device} does not tell how much memory it has: --device_memory=141GB says whether the run fits`,
    );
  } else if (isRoomy) {
    const fits = tooLarge.length > 0 ? "in bytes alone it fits" : "fits";
    lines.push(`${fits}: ${what} of ${formatBytes(memory)} (${device})`);
  } else {
    const room = memory - (isSoftware ? beside : 0);
    const changes = estimatedAlternatives(config, adapter, room, workloadOf, !measured, report.plan.ranks);
    lines.push(
      `does not fit: ${what} of ${formatBytes(memory)} (${device})`,
      adviceFor(changes, config, room, bytesOfParameters(planned)),
    );
  }
  lines.push(
    isSoftware
      ? `beside the plan's bytes these are about ${
        formatBytes(beside)
      } for program, driver and tokenizer, and some 90 MB more the ` +
        "first time, while the driver compiles"
      : `beside the device's bytes the process takes about ${formatBytes(beside)} of the machine's memory`,
  );
  return { fits: isRoomy && tooLarge.length === 0, lines };
}

const count = (value: number) => Math.round(value).toLocaleString("en-US");
