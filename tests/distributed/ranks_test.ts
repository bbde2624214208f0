/** What ranks have to have in common, and who says what. */
import assert from "node:assert/strict";
import { mkdir, readdir } from "node:fs/promises";
import { join } from "node:path";
import { warnings } from "../../lib/checkpoint/fingerprint.ts";
import { type Division, divisionOf } from "../../lib/checkpoint/division.ts";
import { alone as line } from "../../lib/distributed/communicator.ts";
import type { Fingerprint, SavedRun } from "../../lib/checkpoint/state.ts";
import { readConfig } from "../../lib/config/parse.ts";
import { launchOf, librariesFor } from "../../lib/distributed/mpi_abi.ts";
import { UserError } from "../../lib/errors.ts";
import {
  checkAdapters,
  checkSameFiles,
  checkSameKeys,
  checkSharedFolder,
  idleZeroStage,
  passesOfRank,
  RankLog,
} from "../../lib/run/ranks.ts";
import { VERSION } from "../../lib/program/version.ts";
import { GOLDEN } from "../golden_run.ts";
import { refusal } from "../in_process.ts";
import { asRanks } from "../ranks.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

Deno.test("passes that do not divide are refused with the numbers that would", () => {
  const passes = (size: number, stages = 1) =>
    passesOfRank({
      perDeviceTrainBatchSize: 6,
      gradientAccumulationSteps: 3,
      numGpus: 2,
      pipelineParallelSize: stages,
    }, { size });
  assert.deepEqual([1, 2, 3, 6].map((size) => passes(size)), [6, 3, 2, 1]);
  assert.deepEqual([2, 4, 12].map((size) => passes(size, 2)), [6, 3, 1]);
  for (const size of [4, 5, 12]) {
    assert.throws(() => passes(size), (error: UserError) => {
      assert.equal(error.status, 2);
      assert.match(
        error.message,
        new RegExp(`3 x 2 = 6 passes .* over ${size} ranks: start 1 or 2 or 3 or 6`),
      );
      return true;
    });
  }
  const refused = (size: number, stages: number, message: RegExp) =>
    assert.throws(
      () => passes(size, stages),
      (error: UserError) => error.status === 2 && message.test(error.message),
    );
  const batch =
    /start 2 or 4 or 6 or 12, or, .* --per_device_train_batch_size=3 --gradient_accumulation_steps=6$/;
  refused(8, 2, new RegExp(`6 passes .* over 8 ranks, 4 pipelines of 2: ${batch.source}`));
  refused(5, 1, /: start 1 or 2 or 3 or 6, or change what a step is$/);
  refused(
    3,
    2,
    /^pipeline_parallel_size: 2 stages want .*there are 3: start 2 or 4 or 6 or 12 \(mpirun -n 2\)$/,
  );
  refused(1, 4, /^pipeline_parallel_size: 4 stages .*there is 1: /);
});

Deno.test("a zero_stage that nobody shares by is told", () => {
  const idle = (size: number, stages: number, zeroStage = 1) =>
    idleZeroStage({ zeroStage, pipelineParallelSize: stages }, { size });
  assert.equal(idle(1, 1), "zero_stage: ignored: there is one rank; mpirun -n N starts several");
  assert.match(idle(2, 2)!, /there is one pipeline of 2 ranks; /);
  assert.deepEqual([idle(2, 1), idle(4, 2), idle(1, 1, 0)], [undefined, undefined, undefined]);
});

Deno.test("ranks of other keys, files or checkpoints are refused on every rank, each named", async () => {
  const { config } = await readConfig(`${GOLDEN}/run.yaml`);
  const other = { ...config, learningRate: 2, gpuId: "1", pipelineParallelSize: 3 };
  await asRanks(2, (own) => checkSameKeys(own, own.rank === 0 ? config : { ...config, gpuId: "1" }));
  const ofKeys = await asRanks(2, (own) => refusal(checkSameKeys(own, own.rank === 0 ? config : other)));
  assert.equal(ofKeys[0], ofKeys[1]);
  assert.match(
    ofKeys[0],
    /^the ranks would .*\n {2}rank 1 on \S+: learning_rate: 2, and not \S+\n {2}rank 1 on \S+: pipeline_parallel_size: 3, and not 1$/,
  );

  const same: Fingerprint = {
    config: {},
    model: { "model.safetensors": "a" },
    ...{ tokenizer: "t", template: "t", rules: 1, train: ["d"] },
  };
  const start = { step: 4, files: { "a.safetensors": "1" } };
  await asRanks(2, (own) => checkSameFiles(own, same, start));
  const refusals = await asRanks(3, (own) =>
    refusal(checkSameFiles(
      own,
      own.rank === 2 ? { ...same, model: { "model.safetensors": "b" }, train: [] } : same,
      own.rank === 2 ? undefined : { step: 4, files: { "a.safetensors": `${own.rank}` } },
    )));
  const [message] = refusals;
  assert.deepEqual(refusals, [message, message, message]);
  for (
    const line of [
      /^ {2}rank 1 on \S+: output_dir: of its checkpoint other files than rank 0's: a.safetensors: /m,
      /^ {2}rank 2 on \S+: model_name_or_path: model.safetensors is another file$/m,
      /^ {2}rank 2 on \S+: dataset_mixer: the data of the train split are others \(by SHA-256\)$/m,
      /^ {2}rank 2 on \S+: output_dir: it begins anew, and rank 0 goes on after step 4: /m,
    ]
  ) assert.match(message, line);
  assert.equal(message.split("\n").length, 5, message);
});

Deno.test("ranks that do not see the first one's folder are refused where they are to read from it", async () => {
  await withTemporaryFolder(async (folder) => {
    const elsewhere = join(folder, "elsewhere");
    await mkdir(elsewhere);
    await asRanks(2, (own) => checkSharedFolder(own, folder));
    const refusals = await asRanks(
      2,
      (own) => refusal(checkSharedFolder(own, own.rank === 0 ? folder : elsewhere)),
    );
    for (const message of refusals) {
      assert.match(message, /^output_dir: rank 1 on \S+ does not see the \S+ of rank 0/);
    }
    assert.deepEqual(await readdir(folder), ["elsewhere"]);
  });
});

Deno.test("who goes on with another division of the work is told so, where sums round by it", () => {
  const saved = (division?: Division) =>
    ({ folder: "run", state: { version: VERSION, device: "GPU", division } }) as unknown as SavedRun;
  const told = (before: Division | undefined, now: Division | undefined) =>
    warnings(saved(before), "GPU", now).map((message) => message.replace(/: the numbers .*/, ""));
  const [alone, two, staged] = [[1, 1], [2, 1], [1, 2]].map(([data, pipeline]) =>
    [0, 1, 2].map((zeroStage) =>
      [false, true].map((stagesMatter) =>
        divisionOf(
          { data: { ...line, size: data }, pipeline: { ...line, size: pipeline } },
          { zeroStage },
          stagesMatter,
        )
      )
    )
  );
  assert.deepEqual([...alone.flat(), staged[0][0]], Array(7).fill(undefined));
  assert.deepEqual(told(undefined, undefined), []);
  assert.deepEqual(told(undefined, two[0][0]), ["run was made by 1 rank, and here it is 2 ranks"]);
  assert.deepEqual(told(staged[0][1], undefined), [
    "run was made by 1 pipeline of 2 stages, and here it is 1 rank",
  ]);
  const why = (now: Division) => warnings(saved(staged[0][1]), "GPU", now, "of the table alone")[0];
  assert.match(why(alone[0][1]!), /^run was .* 1 rank: the numbers may differ .*: of the table alone$/);
  assert.doesNotMatch(why(two[0][1]!), /table/);
  assert.deepEqual(told(two[1][0], two[0][0]), []);
  assert.deepEqual(told(two[2][0], two[1][0]), [
    "run was made by 2 ranks, zero_stage: 2, and here it is 2 ranks",
  ]);
});

Deno.test("two ranks have two GPUs of one kind, or share one where they may", async () => {
  const [a, b, other] = [{ name: "A", selection: "1" }, { name: "A", selection: "2" }, {
    name: "B",
    selection: "",
  }];
  const check = (shareGpu: boolean, ...gpus: { name: string; selection: string }[]) =>
    asRanks(gpus.length, (own) => checkAdapters(own, gpus[own.rank], { shareGpu }));
  assert.deepEqual(await check(false, a, b), [1, 1]);
  assert.deepEqual(await check(true, a, b, a), [2, 1, 2]);
  const refusals = (...gpus: { name: string; selection: string }[]) =>
    asRanks(
      gpus.length,
      (own) =>
        checkAdapters(own, gpus[own.rank], { shareGpu: false }).then(() => "", ({ message }) => message),
    );
  for (const message of await refusals(a, b, a)) {
    assert.match(message, /^ranks 0 and 2 have one adapter, A on \S+: .*share_gpu: true/);
  }
  for (const message of await refusals(a, other)) {
    assert.match(message, /^ranks 0 and 1 have other adapters, A and B, /);
  }
});

Deno.test("warnings of other ranks are named, unless the first rank has the same", async () => {
  const said: string[] = [];
  await asRanks(3, async (own) => {
    const rankLog = new RankLog(own, (level, message) => said.push(`${level}: ${message}`));
    rankLog.log("info", "begins");
    rankLog.log("warning", "of all");
    if (own.rank === 2) rankLog.log("warning", "of one");
    await rankLog.tell();
    if (own.rank === 1) rankLog.log("warning", "later");
  });
  assert.deepEqual(said.toSorted(), [
    "info: begins",
    "warning: of all",
    "warning: rank 1: later",
    "warning: rank 2: of one",
  ]);
});

Deno.test("what launchers put into the environment is known, and nothing else taken for it", () => {
  const of = (environment: Record<string, string | undefined>) => launchOf((name) => environment[name]);
  const found = (environment: Record<string, string>) => {
    const { rank, size, variable } = of(environment)!;
    return [variable, rank, size];
  };
  assert.deepEqual(found({ PMIX_RANK: "3", OMPI_COMM_WORLD_RANK: "3", OMPI_COMM_WORLD_SIZE: "4" }), [
    "OMPI_COMM_WORLD_RANK",
    3,
    4,
  ]);
  assert.deepEqual(found({ RANK: "1", WORLD_SIZE: "8", PMI_RANK: "0", PMI_SIZE: "2" }), ["PMI_RANK", 0, 2]);
  assert.deepEqual(found({ PMIX_RANK: "1", SLURM_STEP_NUM_TASKS: "2" }), ["PMIX_RANK", 1, 2]);
  // The shell of an allocation for two, which is one task.
  assert.deepEqual(found({ PMIX_RANK: "0", SLURM_NTASKS: "2", SLURM_STEP_NUM_TASKS: "1" }), [
    "PMIX_RANK",
    0,
    1,
  ]);
  assert.deepEqual(found({ SLURM_PROCID: "1", SLURM_STEP_NUM_TASKS: "2" }), ["SLURM_PROCID", 1, 2]);
  // Open MPI and MPICH have srun start one process a host, which start the ranks.
  const step = { SLURM_PROCID: "0", SLURM_STEP_NUM_TASKS: "2" };
  assert.deepEqual(found({ ...step, PMI_RANK: "0", PMI_SIZE: "1" }), ["PMI_RANK", 0, 1]);
  assert.deepEqual(found({ FLUX_TASK_RANK: "1", FLUX_JOB_SIZE: "2" }), ["FLUX_TASK_RANK", 1, 2]);
  assert.deepEqual(found({ PMIX_RANK: "1" }), ["PMIX_RANK", 1, undefined]);
  assert.deepEqual(found({ RANK: "1", WORLD_SIZE: "2" }), ["RANK", 1, 2]);
  assert.deepEqual(found({ RANK: "0", WORLD_SIZE: "1" }), ["RANK", 0, 1]);
  assert.deepEqual(found({ ...step, RANK: "0", WORLD_SIZE: "1" }), ["SLURM_PROCID", 0, 2]);
  // A batch script of SLURM's starts no ranks.
  for (
    const alone of [{ SLURM_PROCID: "0", SLURM_NTASKS: "4" }, { PMI_RANK: "x" }, { WORLD_SIZE: "2" }, {
      RANK: "2",
    }]
  ) {
    assert.equal(of(alone), undefined);
  }
  // Where several are installed, that of what started the ranks is the first.
  const order = (variable: string) =>
    librariesFor(variable).filter((name) =>
      name.endsWith(".40") || name.endsWith(".12") || name.endsWith(".1")
    );
  const [abi, open, mpich] = ["libmpi_abi.so.1", "libmpi.so.40", ["libmpi.so.12", "libmpich.so.12"]];
  assert.deepEqual(order("OMPI_COMM_WORLD_RANK"), [open, abi, mpich].flat());
  assert.deepEqual(order("PMI_RANK"), [abi, mpich, open].flat());
  assert.deepEqual(order("PMIX_RANK"), [abi, open, mpich].flat());
});
