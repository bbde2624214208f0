import { pack } from "../batch/pack.ts";
import { listCheckpoints } from "../checkpoint/names.ts";
import type { TrainConfig } from "../config/schema.ts";
import { gather } from "../distributed/collectives.ts";
import type { Communicator } from "../distributed/communicator.ts";
import type { Grid } from "../distributed/grid.ts";
import { StageLine } from "../distributed/pipeline.ts";
import { UserError } from "../errors.ts";
import type { Gpu } from "../gpu/device.ts";
import { elementBytes, isReadable, type Slab, type Tensor } from "../gpu/memory.ts";
import type { Look } from "../gpu/program.ts";
import { BatchedReader, firstNonFinite } from "../gpu/readback.ts";
import type { PairResult } from "../training/metrics.ts";
import type { Planned } from "../planning/plan.ts";
import type { Prepared } from "../planning/prepare.ts";
import { sampleStep } from "../training/sampler.ts";
import type { StepResult } from "../training/step_figures.ts";

interface GuardedRun {
  gpu: Gpu;
  config: Pick<TrainConfig, "outputDir">;
  prepared: Prepared;
  planned: Planned;
  communicator: Communicator;
  ranks: Grid;
}

class BadNumbers extends UserError {}

/**
 * Stops at the first step with a loss, log-probability or gradient that is not finite: its update, and any after it,
 * was not made.
 *
 * @throws {UserError} with the step, the pair and the tensor in which the first bad number came up.
 */
export async function checkFinite(run: GuardedRun, { step, pairs, clip }: StepResult): Promise<void> {
  if (!clip.broken) return;
  const { gpu, prepared: { sampler, train }, planned: { optimizer, runner } } = run;
  const { batches } = sampleStep(step, sampler);
  const bad = batches.flat()[pairs.findIndex((pair) => !isFinitePair(pair))];
  const [parameter] = await optimizer.brokenParameters(gpu);
  const what = bad === undefined
    ? `the gradient of ${parameter?.spec.name ?? "the whole model"} is not finite, though every loss is`
    : `the loss of ${train.where(bad)} is not finite`;
  // The bad pair's pass first; where every loss is finite, all of them.
  const suspects = batches.filter((batch) => bad === undefined || batch.includes(bad));
  let found: BadTensor | undefined;
  for (const indices of suspects) found ??= await firstBadTensor(run, indices);
  const first = found?.text ?? "No single pass of it has a bad number: their sum does";
  const left = runner.updatesEarly
    ? "Only weights whose gradients came before it were updated"
    : "The weights are as they were before this step";
  // Before the first update no setting can have done it.
  const advice = found?.isWeight && step === 0
    ? "So it is in the model that the run begins with, whose weights have to be finite: look at its files, or take " +
      "another model"
    : `${left}. Try a lower learning_rate, a longer warm-up or a smaller max_grad_norm; look at that pair, and check ` +
      "that the model's own weights are finite";
  throw new BadNumbers(
    `step ${step + 1}: ${what}. ${first}. ${advice}`,
    1,
    "NOT_FINITE",
  );
}

const isFinitePair = ({ loss, chosen, rejected }: PairResult) => Number.isFinite(loss + chosen + rejected);

interface BadTensor {
  text: string;
  isWeight: boolean;
}

/**
 * Runs a pass again, kernel by kernel, and says which tensor is the first with a bad number. Of a pipeline each stage
 * looks at its own and hands on what it makes, nothing where it has found one; all are told of the one that was found.
 */
async function firstBadTensor(run: GuardedRun, indices: readonly number[]): Promise<BadTensor | undefined> {
  const { gpu, prepared: { train }, planned: { decoder, runner }, ranks: { pipeline }, communicator } = run;
  const { net, boundaries: { received, sent } } = decoder;
  const pairs = await train.read(indices);
  const batch = pack(pairs, net.windows);
  const line = new StageLine(gpu, pipeline);
  const where = pipeline.size > 1 ? `, on rank ${communicator.rank}` : "";
  const names = new Map([[received?.slab, net.received?.value.name], [sent?.slab, net.sent?.value.name]]);
  const { look, found } = lookForBad(gpu, names, where);
  const ofAll = async () => {
    await line.sent();
    return (await gather(pipeline, found())).find((of) => of !== undefined);
  };

  const input = received && await line.receive("before");
  const ends = input?.length === 0 || await decoder.walkForward(gpu, batch, look, input);
  if (sent && ends) line.end("next");
  else if (sent) await line.send(sent, batch.ids.length, "next");
  else if (runner.loss && !ends) await runner.applyLoss(gpu, runner.loss, batch, pairs, batch.pairs);
  const inForward = await ofAll();
  if (inForward) return inForward;

  const gradient = net.sent?.hasGradient ? await line.receive("next") : undefined;
  const stops = gradient?.length === 0 || await decoder.walkBackward(gpu, look, gradient);
  if (net.received?.hasGradient) {
    if (stops) line.end("before");
    else await line.send(received!, batch.ids.length, "before");
  }
  return await ofAll();
}

/**
 * What looks at the tensors of a kernel, and what it has found.
 * @param boundaries the names of what is exchanged with other stages, which kernels make though it is of the batch.
 */
function lookForBad(
  gpu: Gpu,
  boundaries: ReadonlyMap<Slab | undefined, string | undefined>,
  where: string,
): { look: Look; found: () => BadTensor | undefined } {
  let found: BadTensor | undefined;
  let lastWeights = "";
  const look: Look = async ({ label, tensors }) => {
    // A weight before what was made with it.
    const isWeight = ({ slab }: Tensor) => slab.purpose === "weights";
    const isFloat = ({ slab, quantized }: Tensor) =>
      (slab.purpose !== "batch" || boundaries.has(slab)) && isReadable(slab) && !quantized;
    const floats = tensors.filter(isFloat);
    lastWeights = floats.find(isWeight)?.name ?? lastWeights;
    for (const tensor of [...floats.filter(isWeight), ...floats.filter((other) => !isWeight(other))]) {
      const bad = await firstBadElement(gpu, tensor);
      if (!bad) continue;
      const text = isWeight(tensor)
        ? `The first bad tensor is the weight ${tensor.name} (element ${bad.index} is ${bad.value})`
        : `The first bad tensor is "${
          boundaries.get(tensor.slab) ?? tensor.name
        }" (element ${bad.index} is ${bad.value}), which the kernel ` +
          `${label} leaves${lastWeights && ` at ${lastWeights}`}`;
      found = { text: text + where, isWeight: isWeight(tensor) };
      return true;
    }
    return false;
  };
  return { look, found: () => found };
}

async function firstBadElement(
  gpu: Gpu,
  tensor: Tensor,
): Promise<{ index: number; value: number } | undefined> {
  const { name } = tensor;
  const reader = new BatchedReader(gpu, [{
    name,
    tensor,
    firstElement: 0,
    count: tensor.bytes / elementBytes(tensor),
  }]);
  let first = 0;
  for await (const piece of reader.pieces(name)) {
    const index = firstNonFinite(piece);
    if (index >= 0) return { index: first + index, value: piece[index] };
    first += piece.length;
  }
}

/**
 * An error of the loop as the user should read it: a failure of the GPU with the steps that it may have come in, and
 * each with the checkpoint that is left.
 *
 * @param first the first step whose results are not known, counted from 1, and the last that the GPU was given.
 */
export async function explainFailure(
  error: unknown,
  { gpu, config }: GuardedRun,
  [first, last]: [number, number],
): Promise<unknown> {
  // A lost device is told of only after the calls that failed with it.
  await new Promise((resolve) => setTimeout(resolve));
  const failure = failureOf(gpu);
  if (!failure && !(error instanceof UserError)) return error;
  const place = last > first ? `steps ${first} to ${last}: ` : `step ${first}: `;
  const message = failure ? place + failure.message : (error as UserError).message;
  const hint = error instanceof BadNumbers
    ? "as model_name_or_path it begins a new run with other settings"
    : "the same command goes on from it";
  const left = (await listCheckpoints(config.outputDir)).at(-1);
  return new UserError(
    `${message}\n${left ? `the last checkpoint is ${left.folder}: ${hint}` : "there is no checkpoint yet"}`,
    1,
    (failure ?? (error as UserError)).code,
  );
}

function failureOf(gpu: Gpu): UserError | undefined {
  try {
    gpu.check();
  } catch (error) {
    return error as UserError;
  }
}
