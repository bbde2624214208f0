/** The command line under mpiexec, where there is one. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { taskWith, taskWords } from "../command.ts";
import { assertEqualBytes } from "../equal_bytes.ts";
import { GOLDEN } from "../golden_run.ts";
import { run, weightsOf } from "../in_process.ts";
import { MPI_ENVIRONMENT, MPIEXEC, mpiTest } from "../mpi.ts";
import { asRanks } from "../ranks.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

const KEYS = ["--max_steps=3", "--save_strategy=no", "--share_gpu"];

/** `mpiexec -n 2 deno task ranks train`, of the golden run. */
async function trainRanks(...words: string[]): Promise<{ status: number; stderr: string }> {
  const { code, stderr } = await new Deno.Command(MPIEXEC!, {
    args: ["-n", "2", Deno.execPath(), ...taskWords("ranks"), "train", `${GOLDEN}/run.yaml`, ...words],
    env: MPI_ENVIRONMENT,
    stdin: "null",
  }).output();
  return { status: code, stderr: new TextDecoder().decode(stderr) };
}

mpiTest(
  "the page's command for a copy of the repository divides the run that ships",
  () =>
    withTemporaryFolder(async (folder) => {
      const page = await Deno.readTextFile("configs/README.md");
      const [, words] = page.match(/^mpirun -n 2 deno task ranks train (--.+)$/m)!;
      const { code, stderr } = await new Deno.Command(MPIEXEC!, {
        args: [
          ...["-n", "2", Deno.execPath(), ...taskWords("ranks"), "train", ...words.split(" ")],
          ...["--max_steps=1", "--prompts=[]", "--eval_strategy=no", `--output_dir=${join(folder, "out")}`],
        ],
        env: MPI_ENVIRONMENT,
        stdin: "null",
      }).output();
      assert.equal(code, 0, new TextDecoder().decode(stderr));
    }),
);

mpiTest(
  "two processes of mpiexec leave the bytes of two ranks in one process, and say everything once",
  () =>
    withTemporaryFolder(async (folder) => {
      const [mpi, here] = ["mpi", "here"].map((out) => join(folder, out));
      const { status, stderr } = await trainRanks(`--output_dir=${mpi}`, ...KEYS);
      assert.equal(status, 0, stderr);
      assert.equal(stderr.match(/^2 ranks: of the passes of a step each makes 1$/gm)?.length, 1, stderr);
      assert.equal(stderr.match(/^warning: train: 2 of 7 pairs /gm)?.length, 1, stderr);
      await asRanks(2, (communicator) => run(here, KEYS, { communicator }));
      assertEqualBytes(await weightsOf(mpi), await weightsOf(here));
    }),
);

mpiTest(
  "two stages, each a process of mpiexec, leave the bytes of one process",
  () =>
    withTemporaryFolder(async (folder) => {
      const [mpi, alone] = ["mpi", "alone"].map((out) => join(folder, out));
      const { status, stderr } = await trainRanks(
        `--output_dir=${mpi}`,
        ...KEYS,
        "--pipeline_parallel_size=2",
      );
      assert.equal(status, 0, stderr);
      await run(alone, KEYS);
      assertEqualBytes(await weightsOf(mpi), await weightsOf(alone));
    }),
);

mpiTest("a mistake that all ranks would find is told once, and ends all with its status", async () => {
  const { status, stderr } = await trainRanks("--max_length=x");
  assert.equal(status, 2, stderr);
  assert.equal(stderr.match(/expected an integer from 2 to 1048576, found "x"/g)?.length, 1, stderr);
});

mpiTest("tasks of srun that MPI knows nothing of are refused, each in one line", async () => {
  const env = { ...MPI_ENVIRONMENT, SLURM_PROCID: "1", SLURM_STEP_NUM_TASKS: "2", SLURM_NTASKS: "2" };
  const words = ["train", `${GOLDEN}/run.yaml`, ...KEYS];
  const { status, stderr } = await taskWith(env, "ranks", ...words);
  assert.equal(status, 2, stderr);
  assert.match(
    stderr,
    /^error: by SLURM_PROCID this is one of 2 ranks, .* knows of 1: .*srun --mpi=pmix.*$/m,
  );
  const bound = await taskWith(env, "train", ...words.slice(1));
  assert.equal(bound.status, 2, bound.stderr);
  assert.match(
    bound.stderr,
    /^error: by SLURM_PROCID this is one of 2 ranks, .*`deno task ranks train .*\n$/,
  );
});
