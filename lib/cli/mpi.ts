/** The line between ranks that mpirun started, over MPI's own library: the command line's alone, as it is Deno's. */
import { basename } from "node:path";
import { setImmediate } from "node:timers";
import { alone, type Communicator } from "../distributed/communicator.ts";
import {
  type Launch,
  launchOf,
  librariesFor,
  type MpiAbi,
  MPICH,
  OPEN_MPI,
  STANDARD,
  startedRight,
} from "../distributed/mpi_abi.ts";
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
    MPI_Isend: {
      parameters: ["buffer", "i32", handle, "i32", "i32", handle, "buffer"],
      result: "i32",
    },
    MPI_Irecv: {
      parameters: ["buffer", "i32", handle, "i32", "i32", handle, "buffer"],
      result: "i32",
    },
    MPI_Comm_split: { parameters: [handle, "i32", "i32", "buffer"], result: "i32", nonblocking: true },
    MPI_Barrier: { parameters: [handle], result: "i32" },
    MPI_Finalize: { parameters: [], result: "i32", nonblocking: true },
    MPI_Abort: { parameters: [handle, "i32"], result: "i32" },
  }) as const;

type Library = Deno.DynamicLibrary<ReturnType<typeof symbolsOf>>;
// Deno's types know a handle by its kind, which is the same in all calls.
type Handle = Deno.PointerValue & number;

/**
 * Milliseconds between looks at whether all ranks have come; Deno takes two of them. Those that come one after the
 * other at once are looked for all the time, so long.
 */
const [LOOK, SOON] = [1, 5];
/** Bytes of an MPI_Status, and more. */
const STATUS_BYTES = 64;

/** A line that has an end. */
interface Mpi extends Communicator {
  /** Waits for the other ranks, and says that this one has ended well. */
  close(): Promise<void>;
}

/** Milliseconds in which ranks that have all come to their end may part. */
const PARTING = 5000;

/** Milliseconds in which the first rank may say what is wrong with all, before another says it. */
const FIRST_SAYS = 2000;

/** Milliseconds in which whoever started the ranks may read what one says: its end of all ends that too. */
const LAST_WORDS = 250;

/**
 * Runs `body` as the rank that this process is: alone, where nobody started several. A rank that throws ends all.
 */
export async function asRank(body: (communicator: Communicator) => Promise<number>): Promise<number> {
  const launch = launchOf(environment);
  if (!launch || launch.size === 1) return await body(alone);
  const mpi = openMpi(launch);
  try {
    const status = await body(mpi);
    await mpi.close();
    return status;
  } catch (error) {
    if (mpi.rank === 0) throw error;
    await after(FIRST_SAYS);
    if (!(error instanceof UserError)) throw error;
    throw new UserError(`rank ${mpi.rank}: ${error.message}`, error.status, error.code);
  }
}

/**
 * Each of several processes would do all of it, side by side.
 * @throws {UserError} (status 2) where this is one of them.
 */
export function refuseRanks(command: string): void {
  const { size = 1, variable } = launchOf(environment) ?? {};
  if (size === 1) return;
  throw new UserError(
    `by ${variable} this is one of ${size} ranks, and \`simper ${command}\` is the work of one process: ` +
      "only `simper train` has ranks",
    2,
  );
}

const after = (milliseconds: number) => new Promise<void>((resolve) => setTimeout(resolve, milliseconds));

/** Of a variable that may not be read nothing is known. */
function environment(name: string): string | undefined {
  const { state } = Deno.permissions.querySync({ name: "env", variable: name });
  return state === "granted" ? Deno.env.get(name) : undefined;
}

/**
 * Opens the line to the other ranks. Until it is closed, the end of this process by Deno.exit ends them too, with the
 * same status.
 *
 * @param launch how many ranks were started, as far as it is told, and by what.
 * @throws {UserError} where there is no library, or another MPI's than that which started the ranks.
 */
function openMpi({ size, variable }: Launch): Mpi {
  if (Deno.permissions.querySync({ name: "ffi" }).state !== "granted") {
    throw new UserError(
      `by ${variable} this is one of ${
        size ?? "several"
      } ranks, and MPI between them is native code, which this ` +
        "process may not load: `deno task ranks train ...` gives --allow-ffi, as the npm package does, and a program of " +
        "`deno install` needs it added to that line",
      2,
    );
  }
  const { library: { symbols: mpi }, abi, path } = openLibrary(variable);
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
  const found = ask((found) => mpi.MPI_Comm_size(world, found));
  // One that is alone has nobody to end.
  let isOpen = found > 1;
  addEventListener("unload", () => {
    if (!isOpen) return;
    // Nothing of a promise is waited for any more.
    Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, LAST_WORDS);
    mpi.MPI_Abort(world, Deno.exitCode || 1);
  });
  if (!isSerialized) {
    throw new UserError(`${path}: this MPI takes calls of one thread alone: expected MPI_THREAD_SERIALIZED`);
  }
  if (size !== undefined && found !== size) {
    throw new UserError(
      `by ${variable} this is one of ${size} ranks, and ${path} (${abi.name}) knows of ${found}: ${
        startedRight(variable)
      }`,
      2,
    );
  }
  const line = lineOf(
    mpi,
    { line: world, byte },
    (found) => handleOf(abi === MPICH ? Number(BigInt.asIntN(32, found)) : found),
  );
  return {
    ...line,
    async close() {
      await line.meet();
      // At once on all ranks: over UCX's TCP MPICH 4.0 waits for ever for one that is through MPI_Finalize, in 3 of 8 runs;
      // so in 2 of 16. Nothing is left to do then, and whoever started the ranks sees them end well.
      check(mpi.MPI_Barrier(world));
      isOpen = false;
      await Promise.race([mpi.MPI_Finalize().then(check), after(PARTING)]);
    },
  };
}

type Bytes = Uint8Array<ArrayBuffer>;

/** Deno takes memory that threads share as any other, which its types do not know. */
const bufferOf = (bytes: Uint8Array) => bytes as Bytes;

/**
 * The line between the ranks of one of MPI's communicators.
 * @param handleOf makes a handle of what MPI has written of one.
 */
function lineOf(
  mpi: Library["symbols"],
  { line, byte }: { line: Handle; byte: Handle },
  handleOf: (found: bigint) => Handle,
): Communicator {
  const number = new Int32Array(1);
  const ask = (call: (found: Int32Array<ArrayBuffer>) => number) => {
    check(call(number));
    return number[0];
  };
  const rank = ask((found) => mpi.MPI_Comm_rank(line, found));
  const size = ask((found) => mpi.MPI_Comm_size(line, found));
  // What MPI reads or writes when its call has returned: of memory that nobody has any more it would be another's.
  const held = new Set<Bytes>();
  // Whoever waits looks now and then: MPI itself would take a whole core for it.
  const done = async (begin: (request: Bytes) => number, bytes?: Bytes) => {
    const request = new Uint8Array(8);
    check(begin(request));
    if (bytes) held.add(bytes);
    const status = new Uint8Array(STATUS_BYTES);
    const start = performance.now();
    while (ask((isDone) => mpi.MPI_Test(request, isDone, status)) === 0) {
      const isSoon = performance.now() - start < SOON;
      await new Promise((resolve) => isSoon ? setImmediate(resolve) : setTimeout(resolve, LOOK));
    }
    if (bytes) held.delete(bytes);
  };
  const meet = () => done((request) => mpi.MPI_Ibarrier(line, request));
  const gather = async (own: Uint8Array, all: Bytes) =>
    check(await mpi.MPI_Allgather(bufferOf(own), own.length, byte, all, own.length, byte, line));
  // With a memory of their own, since MPI goes on with it.
  const lengthBytes = (length = 0) => new Uint8Array(Float64Array.of(length).buffer);
  const lengthIn = ({ buffer }: Bytes) => new Float64Array(buffer)[0];
  return {
    rank,
    size,
    meet,
    async send(bytes, to) {
      const give = (bytes: Bytes) =>
        done((request) => mpi.MPI_Isend(bytes, bytes.length, byte, to, 0, line, request), bytes);
      await Promise.all([give(lengthBytes(bytes.length)), ...bytes.length > 0 ? [give(bytes)] : []]);
    },
    async receive(from) {
      const take = (bytes: Bytes) =>
        done((request) => mpi.MPI_Irecv(bytes, bytes.length, byte, from, 0, line, request), bytes);
      const length = lengthBytes();
      await take(length);
      const bytes = new Uint8Array(new ArrayBuffer(lengthIn(length)));
      if (bytes.length > 0) await take(bytes);
      return bytes;
    },
    async split(color) {
      await meet();
      const found = new BigUint64Array(1);
      check(await mpi.MPI_Comm_split(line, color, rank, new Uint8Array(found.buffer)));
      return lineOf(mpi, { line: handleOf(found[0]), byte }, handleOf);
    },
    async allGather(own, into) {
      if (into) {
        await gather(own, into);
        return Array.from({ length: size }, (_, of) => into.subarray(of * own.length, (of + 1) * own.length));
      }
      await meet();
      const lengths = new Float64Array(size);
      await gather(lengthBytes(own.length), new Uint8Array(lengths.buffer));
      const longest = Math.max(...lengths);
      const padded = new Uint8Array(longest);
      padded.set(own);
      const all = new Uint8Array(longest * size);
      await gather(padded, all);
      return Array.from(lengths, (length, of) => all.subarray(of * longest, of * longest + length));
    },
    async broadcast(bytes, from) {
      check(await mpi.MPI_Bcast(bytes, bytes.length, byte, from, line));
    },
    async allToAll(parts, into) {
      const part = parts.length / size;
      check(await mpi.MPI_Alltoall(bufferOf(parts), part, byte, bufferOf(into), part, byte, line));
    },
  };
}

/** MPI ends the process of a call that fails, unless it is told otherwise. */
function check(code: number): void {
  if (code !== 0) throw new UserError(`MPI reported error ${code}`);
}

function openLibrary(variable: string): { library: Library; abi: MpiAbi; path: string } {
  const named = environment("SIMPER_MPI");
  let failure = "";
  for (const path of named ? [named] : librariesFor(variable)) {
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
      : `by ${variable} this process is one of several ranks, and where the system looks there is no library of MPI`) +
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
