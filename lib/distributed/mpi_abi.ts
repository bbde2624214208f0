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

/** The names of libraries on Linux and macOS, in the order in which they are looked for. */
export const LIBRARIES: readonly string[] = [
  ...["libmpi_abi.so.1", "libmpi_abi.so", "libmpi_abi.dylib"],
  ...["libmpi.so.40", "libmpi.40.dylib"],
  // Debian gives MPICH's a name of its own.
  ...["libmpi.so.12", "libmpi.12.dylib", "libmpich.so.12"],
];

/** Variables by which whoever starts ranks tells each of them so, and how many there are. */
const LAUNCHERS = [
  { rank: "OMPI_COMM_WORLD_RANK", size: "OMPI_COMM_WORLD_SIZE" },
  { rank: "PMI_RANK", size: "PMI_SIZE" },
  { rank: "PMIX_RANK", size: "SLURM_NTASKS" },
  // What PyTorch's programs are told by, and scripts set for them whatever has started the ranks.
  { rank: "RANK", size: "WORLD_SIZE" },
] as const;

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
  for (const names of LAUNCHERS) {
    const [rank, size] = [number(names.rank), number(names.size)];
    // PMIx itself tells no size; what else tells a rank alone means another.
    const isTold = rank !== undefined && (size !== undefined || names.rank === "PMIX_RANK");
    if (isTold) return { rank, size, variable: names.rank };
  }
}
