/** The line between ranks that mpirun started, over MPI's own library: the command line's alone, as it is Deno's. */
import { basename } from "node:path";
import { alone, type Communicator } from "../distributed/communicator.ts";
import { launchOf, LIBRARIES, type MpiAbi, MPICH, OPEN_MPI, STANDARD } from "../distributed/mpi_abi.ts";
import { UserError } from "../errors.ts";

/** MPI's functions as C has them; handles are pointers, but for MPICH's own ABI. */
const symbolsOf = (handle: "pointer" | "i32") =>
  ({
    MPI_Init_thread: { parameters: ["pointer", "pointer", "i32", "buffer"], result: "i32" },
    MPI_Comm_rank: { parameters: [handle, "buffer"], result: "i32" },
    MPI_Comm_size: { parameters: [handle, "buffer"], result: "i32" },
    MPI_Ibarrier: { parameters: [handle, "buffer"], result: "i32" },
    MPI_Test: { parameters: ["buffer", "buffer", "buffer"], result: "i32" },
    MPI_Allgather: {
      parameters: ["buffer", "i32", handle, "buffer", "i32", handle, handle],
      result: "i32",
      nonblocking: true,
    },
    MPI_Bcast: {
      parameters: ["buffer", "i32", handle, "i32", handle],
      result: "i32",
      nonblocking: true,
    },
    MPI_Alltoall: {
      parameters: ["buffer", "i32", handle, "buffer", "i32", handle, handle],
      result: "i32",
      nonblocking: true,
    },
    MPI_Finalize: { parameters: [], result: "i32" },
    MPI_Abort: { parameters: [handle, "i32"], result: "i32" },
  }) as const;

type Library = Deno.DynamicLibrary<ReturnType<typeof symbolsOf>>;
// Deno's types know a handle by its kind, which is the same in all calls.
type Handle = Deno.PointerValue & number;

/** Milliseconds between looks at whether all ranks have come. */
const LOOK = 1;
/** Bytes of an MPI_Status, and more. */
const STATUS_BYTES = 64;

/** A line that has an end. */
interface Mpi extends Communicator {
  /** Waits for the other ranks, and says that this one has ended well. */
  close(): Promise<void>;
}

/** Milliseconds in which the first rank may say what is wrong with all, before another says it. */
const FIRST_SAYS = 2000;

/**
 * Runs `body` as the rank that this process is: alone, where nobody started several. A rank that throws ends all.
 */
export async function asRank(body: (communicator: Communicator) => Promise<number>): Promise<number> {
  const launch = launchOf(environment);
  if (!launch || launch.size === 1) return await body(alone);
  const mpi = openMpi(launch.size);
  try {
    const status = await body(mpi);
    await mpi.close();
    return status;
  } catch (error) {
    if (mpi.rank === 0) throw error;
    await new Promise((resolve) => setTimeout(resolve, FIRST_SAYS));
    if (!(error instanceof UserError)) throw error;
    throw new UserError(`rank ${mpi.rank}: ${error.message}`, error.status, error.code);
  }
}

/** Of a variable that may not be read nothing is known. */
function environment(name: string): string | undefined {
  const { state } = Deno.permissions.querySync({ name: "env", variable: name });
  return state === "granted" ? Deno.env.get(name) : undefined;
}

/**
 * Opens the line to the other ranks. Until it is closed, the end of this process by Deno.exit ends them too, with the
 * same status.
 *
 * @param size how many ranks were started.
 * @throws {UserError} where there is no library, or another MPI's than that which started the ranks.
 */
function openMpi(size: number | undefined): Mpi {
  const { library: { symbols: mpi }, abi, path } = openLibrary();
  const handleOf = (of: bigint | number | string): Handle =>
    (typeof of === "number"
      ? of
      : typeof of === "bigint"
      ? Deno.UnsafePointer.create(of)
      : addressOf(path, of)) as Handle;
  const [world, byte] = [handleOf(abi.world), handleOf(abi.byte)];
  const number = new Int32Array(1);
  const ask = (call: (found: Int32Array<ArrayBuffer>) => number) => {
    check(call(number));
    return number[0];
  };
  const isSerialized =
    ask((found) => mpi.MPI_Init_thread(null, null, abi.serialized, found)) >= abi.serialized;
  const rank = ask((found) => mpi.MPI_Comm_rank(world, found));
  const found = ask((found) => mpi.MPI_Comm_size(world, found));
  let isOpen = true;
  addEventListener("unload", () => {
    if (isOpen) mpi.MPI_Abort(world, Deno.exitCode || 1);
  });
  if (!isSerialized) {
    throw new UserError(`${path}: this MPI takes calls of one thread alone: expected MPI_THREAD_SERIALIZED`);
  }
  if (size !== undefined && found !== size) {
    throw new UserError(
      `mpirun started ${size} ranks, and ${path} (${abi.name}) knows of ${found}: it belongs to another MPI than that mpirun: ` +
        "start them with its own, or name the other's library in SIMPER_MPI",
    );
  }
  // Whoever waits looks now and then: MPI itself would take a whole core for it.
  const meet = async () => {
    const request = new Uint8Array(8);
    check(mpi.MPI_Ibarrier(world, request));
    const status = new Uint8Array(STATUS_BYTES);
    while (ask((isDone) => mpi.MPI_Test(request, isDone, status)) === 0) {
      await new Promise((resolve) => setTimeout(resolve, LOOK));
    }
  };
  type Bytes = Uint8Array<ArrayBuffer>;
  const gather = async (own: Bytes, all: Bytes) =>
    check(await mpi.MPI_Allgather(own, own.length, byte, all, own.length, byte, world));
  return {
    rank,
    size: found,
    async allGather(own) {
      await meet();
      const lengths = new Float64Array(found);
      await gather(new Uint8Array(Float64Array.of(own.length).buffer), new Uint8Array(lengths.buffer));
      const longest = Math.max(...lengths);
      const padded = new Uint8Array(longest);
      padded.set(own);
      const all = new Uint8Array(longest * found);
      await gather(padded, all);
      return Array.from(lengths, (length, of) => all.slice(of * longest, of * longest + length));
    },
    async broadcast(own, from) {
      await meet();
      const share = async (bytes: Bytes) =>
        check(await mpi.MPI_Bcast(bytes, bytes.length, byte, from, world));
      const length = Float64Array.of(own?.length ?? 0);
      await share(new Uint8Array(length.buffer));
      const bytes = rank === from ? own! : new Uint8Array(length[0]);
      await share(bytes);
      return bytes;
    },
    async allToAll(parts) {
      await meet();
      const part = parts.length / found;
      const received = new Uint8Array(parts.length);
      check(await mpi.MPI_Alltoall(parts, part, byte, received, part, byte, world));
      return received;
    },
    async close() {
      await meet();
      isOpen = false;
      check(mpi.MPI_Finalize());
    },
  };
}

/** MPI ends the process of a call that fails, unless it is told otherwise. */
function check(code: number): void {
  if (code !== 0) throw new UserError(`MPI reported error ${code}`);
}

function openLibrary(): { library: Library; abi: MpiAbi; path: string } {
  const named = environment("SIMPER_MPI");
  let failure = "";
  for (const path of named ? [named] : LIBRARIES) {
    try {
      const abi = abiOf(path);
      const symbols = symbolsOf(abi === MPICH ? "i32" : "pointer") as ReturnType<typeof symbolsOf>;
      return { library: Deno.dlopen(path, symbols), abi, path };
    } catch (error) {
      // A permission that is missing is told by who knows how it is given.
      if (error instanceof Deno.errors.NotCapable) throw error;
      failure ||= (error as Error).message.replace(/^(Could not open library: )+/, "");
    }
  }
  throw new UserError(
    (named
      ? `SIMPER_MPI: ${failure}`
      : "mpirun started this process, and where the system looks there is no library of MPI") +
      ": expected MPI's ABI (libmpi_abi.so), Open MPI (libmpi.so.40) or MPICH (libmpi.so.12), that of the mpirun: " +
      "name its file in SIMPER_MPI, or install one (apt-get install openmpi-bin, pip install mpich)",
  );
}

/** Open MPI alone has variables for what others have numbers for. */
function abiOf(path: string): MpiAbi {
  if (basename(path).includes("abi")) return STANDARD;
  try {
    addressOf(path, OPEN_MPI.world as string);
    return OPEN_MPI;
  } catch (error) {
    if (error instanceof Deno.errors.NotCapable || !/symbol/i.test((error as Error).message)) throw error;
    return MPICH;
  }
}

/** The address of a variable of a library. */
function addressOf(path: string, name: string): Deno.PointerValue {
  return Deno.dlopen(path, { [name]: { type: "pointer" } }).symbols[name] as Deno.PointerValue;
}
