/** Where MPI is, for the tests that start ranks. */
import { existsSync } from "node:fs";
import { delimiter, join } from "node:path";

/** `mpiexec`: what SIMPER_MPIEXEC names, or that of PATH; undefined where there is none. */
export const MPIEXEC = Deno.env.get("SIMPER_MPIEXEC") ??
  (Deno.env.get("PATH") ?? "").split(delimiter).map((folder) => join(folder, "mpiexec")).find((path) =>
    existsSync(path)
  );

/** A library of the same installation, where it is not among the system's: SIMPER_MPI, or beside `mpiexec`. */
const LIBRARY = Deno.env.get("SIMPER_MPI") ??
  ["libmpi_abi.so.1", "libmpi.so.40", "libmpi.so.12"].map((name) =>
    join(MPIEXEC ?? "", "..", "..", "lib", name)
  )
    .find((path) => existsSync(path));

/** What ranks want of the environment: Open MPI starts them for root, and more than there are cores, if it is told. */
export const MPI_ENVIRONMENT: Record<string, string> = {
  ...LIBRARY !== undefined && { SIMPER_MPI: LIBRARY },
  OMPI_ALLOW_RUN_AS_ROOT: "1",
  OMPI_ALLOW_RUN_AS_ROOT_CONFIRM: "1",
  OMPI_MCA_rmaps_base_oversubscribe: "1",
  PRTE_MCA_rmaps_default_mapping_policy: ":oversubscribe",
};

/** A test that starts ranks; passed over by name where nothing can. */
export function mpiTest(name: string, body: () => Promise<void>): void {
  const reason = MPIEXEC === undefined ? " (no mpiexec in PATH or SIMPER_MPIEXEC)" : "";
  Deno.test({ name: name + reason, ignore: MPIEXEC === undefined, fn: body });
}
