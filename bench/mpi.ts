/** Programs that mpiexec starts, for the benchmarks of ranks. */
import { MPI_ENVIRONMENT, MPIEXEC } from "../tests/mpi.ts";

/** The JSON that the first of `ranks` processes of `command` prints. */
export async function ofRanks<T>(
  ranks: number,
  command: readonly string[],
  env: Record<string, string> = {},
): Promise<T> {
  if (MPIEXEC === undefined) {
    console.error("no mpiexec in PATH or SIMPER_MPIEXEC: `sh tests/install_mpi.sh` installs Debian's MPICH");
    Deno.exit(1);
  }
  const { code, stdout, stderr } = await new Deno.Command(MPIEXEC, {
    args: ["-n", `${ranks}`, ...command],
    env: { ...MPI_ENVIRONMENT, ...env },
    stdin: "null",
  }).output();
  const text = new TextDecoder();
  if (code !== 0) throw new Error(text.decode(stderr));
  return JSON.parse(text.decode(stdout));
}

/** This program again. */
export const itself = (path: string, ...words: string[]): string[] => [
  Deno.execPath(),
  "run",
  "--no-check",
  "-A",
  path,
  ...words,
];
