#!/usr/bin/env node
/**
 * `simper` as the npm package has it: runs the program under Deno, which is a dependency of the package, with its
 * permissions.
 */
import { spawn } from "node:child_process";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import process from "node:process";
import { fileURLToPath } from "node:url";

const pathOf = (name) => fileURLToPath(new URL(`../../../${name}`, import.meta.url));
const words = process.argv.slice(2);
const { permissions } = JSON.parse(readFileSync(pathOf("deno.json"), "utf8"));
/**
 * Those of the command, as flags: of the sets in deno.json Deno says with each start that they are an experimental
 * feature. What is no command shows the help, which reads the program's own files.
 */
const own = Object.hasOwn(permissions, words[0] ?? "") ? permissions[words[0]] : { read: true };
const allowed = Object.entries(own)
  .map(([name, values]) => `--allow-${name}${values === true ? "" : `=${values}`}`);
const isDawn = process.env.SIMPER_WEBGPU_ENGINE === "dawn" ||
  // The value follows after `=` or as the next word.
  words.some((word, i) =>
    word === "--webgpu_engine=dawn" || word === "--webgpu_engine" && words[i + 1] === "dawn"
  );
// The program loads the library of MPI where mpirun or its like started it.
const isRank = words[0] === "train" &&
  (["OMPI_COMM_WORLD_RANK", "PMI_RANK", "PMIX_RANK", "WORLD_SIZE"].some((name) =>
    process.env[name] !== undefined
  ) || ["SLURM_STEP_NUM_TASKS", "FLUX_JOB_SIZE"].some((name) => Number(process.env[name]) > 1));
// Native code, which no other permission binds.
if (isDawn || isRank) allowed.push("--allow-ffi");
/** The socket that MPICH's mpirun leaves open for each rank. */
const mpi = Number(process.env.PMI_FD);
const stdio = ["inherit", "inherit", "inherit"];
if (isRank && Number.isSafeInteger(mpi) && mpi > 2 && mpi < 1024) {
  while (stdio.length < mpi) stdio.push("ignore");
  stdio.push(mpi);
}
/** Only at a terminal does it tell what it fetches the first time. */
const quiet = process.stderr.isTTY ? [] : ["--quiet"];

// Also where the dependency's own script was not run.
const deno = createRequire(import.meta.url)("deno/install_api.cjs").runInstall();
const child = spawn(
  deno,
  [
    "run",
    ...quiet,
    "--frozen",
    // It has what deno.lock has, and Dawn, which nobody else is to fetch.
    ...isDawn ? [`--lock=${pathOf("lib/gpu/dawn.lock")}`] : [],
    `--config=${pathOf("deno.json")}`,
    ...allowed,
    pathOf("lib/cli/main.ts"),
    ...words,
  ],
  // The program's packages are those of deno.lock, whatever npm's own file says.
  { stdio, env: { ...process.env, DENO_NO_PACKAGE_JSON: "1" } },
);
const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"];
// The program ends in its own time, and with its own status.
for (const signal of SIGNALS) process.on(signal, () => child.kill(signal));
child.on("error", ({ message }) => {
  console.error(`error: Deno cannot be started: ${message}`);
  process.exit(1);
});
child.on("exit", (status, signal) => {
  if (signal === null) process.exit(status);
  process.removeAllListeners(signal);
  process.kill(process.pid, signal);
});
