/** What has to be known of a library of MPI to call it, and of who started this process. */

/**
 * What implementations call the same: the standard's ABI (MPI 5) has fixed numbers of a pointer's size, MPICH had
 * numbers of 32 bits before it, and Open MPI has the addresses of variables.
 */
export interface MpiAbi {
  readonly name: string;
  /** Handles: numbers, or names of what they are the addresses of. */
  readonly world: bigint | number | string;
  readonly byte: bigint | number | string;
  /** MPI_THREAD_SERIALIZED: any thread may call, one at a time. */
  readonly serialized: number;
}

export const STANDARD: MpiAbi = { name: "MPI's ABI", world: 0x101n, byte: 0x247n, serialized: 2048 };
export const OPEN_MPI: MpiAbi = {
  name: "Open MPI",
  world: "ompi_mpi_comm_world",
  byte: "ompi_mpi_byte",
  serialized: 2,
};
export const MPICH: MpiAbi = { name: "MPICH", world: 0x44000000, byte: 0x4c00010d, serialized: 2 };

/** The names of libraries on Linux and macOS. */
const ABI_LIBRARIES = ["libmpi_abi.so.1", "libmpi_abi.so", "libmpi_abi.dylib"];
const OPEN_MPI_LIBRARIES = ["libmpi.so.40", "libmpi.40.dylib"];
// Debian gives MPICH's a name of its own.
const MPICH_LIBRARIES = ["libmpi.so.12", "libmpi.12.dylib", "libmpich.so.12"];

const SLURM_RANK = "SLURM_PROCID";
/** What srun alone sets: where it is none of srun's tasks, a batch script has SLURM_NTASKS and SLURM_PROCID=0. */
const SLURM_TASKS = "SLURM_STEP_NUM_TASKS";
const OPEN_MPI_RANK = "OMPI_COMM_WORLD_RANK";

/** Variables by which whoever starts ranks tells each of them so, and how many there are. */
const LAUNCHERS = [
  { rank: OPEN_MPI_RANK, size: "OMPI_COMM_WORLD_SIZE" },
  { rank: "PMI_RANK", size: "PMI_SIZE" },
  { rank: "PMIX_RANK", size: SLURM_TASKS },
  // What PyTorch's programs are told by, and scripts set for them whatever has started the ranks.
  { rank: "RANK", size: "WORLD_SIZE" },
  // Those of tasks that may have been given no means to find each other: MPI says so.
  { rank: SLURM_RANK, size: SLURM_TASKS },
  { rank: "FLUX_TASK_RANK", size: "FLUX_JOB_SIZE" },
] as const;

/** The libraries in the order in which they are looked for: that of what started the ranks is first. */
export const librariesFor = (variable: string): readonly string[] =>
  variable === OPEN_MPI_RANK
    ? [...OPEN_MPI_LIBRARIES, ...ABI_LIBRARIES, ...MPICH_LIBRARIES]
    : variable === "PMI_RANK"
    ? [...ABI_LIBRARIES, ...MPICH_LIBRARIES, ...OPEN_MPI_LIBRARIES]
    : [...ABI_LIBRARIES, ...OPEN_MPI_LIBRARIES, ...MPICH_LIBRARIES];

/** How ranks are started so that MPI knows of them, by the variable of what started them otherwise. */
export function startedRight(variable: string): string {
  if (variable === SLURM_RANK) {
    return "start them by srun --mpi=pmix or --mpi=pmi2 (srun --mpi=list says which there are), or by this MPI's " +
      `mpirun inside of salloc or sbatch; tasks that are to be a run each are so by env -u ${SLURM_TASKS} simper ...`;
  }
  if (variable === "FLUX_TASK_RANK") return "start them by flux run -o pmi=simple, or -o pmi=pmix";
  return "it belongs to another MPI than what started them, or that was none, as torchrun: start them with this MPI's " +
    "mpirun, or name the other's library in SIMPER_MPI";
}

/** Which of the ranks that were started this process is, and of how many where that is told. */
export interface Launch {
  rank: number;
  size?: number;
  /** The variable that says so. */
  variable: string;
}

/**
 * What the environment says of a launch by mpirun, mpiexec, srun or the like; undefined for a process that is alone.
 * @param environment gives the value of a variable.
 */
export function launchOf(environment: (name: string) => string | undefined): Launch | undefined {
  const number = (name: string) => {
    const value = environment(name);
    return value !== undefined && /^\d+$/.test(value) ? Number(value) : undefined;
  };
  const told = LAUNCHERS.flatMap((names): Launch[] => {
    const [rank, size] = [number(names.rank), number(names.size)];
    // PMIx itself tells no size; what else tells a rank alone means another.
    const isTold = rank !== undefined && (size !== undefined || names.rank === "PMIX_RANK");
    return isTold ? [{ rank, size, variable: names.rank }] : [];
  });
  // One of one, as an image of a container may say, is told by no launcher.
  return told.find(({ size, variable }) => variable !== "RANK" || size !== 1) ?? told[0];
}
