/** What a run's process takes of the machine's memory beside the plan of the device's. */
import { stat } from "node:fs/promises";
import { join } from "node:path";

/**
 * Deno with this program, the driver, its threads and the compiled kernels: 245 to 290 MB of runs with llvmpipe (Mesa
 * 22, Deno 2.9, x86-64), by how many kernels the model needs. A driver that has them in no cache yet takes some 90 MB
 * more to compile them: between both.
 */
const PROGRAM = 300e6;
/** A thread with a tokenizer, beside what its vocabulary takes. */
const WORKER = 44e6;
/** Bytes that a vocabulary takes here and in that thread, for each of tokenizer.json: 36 at 3.5 MB, 43 at 10 MB. */
const VOCABULARY = 40;
/**
 * Weights go to the device and come back in pieces of at most this, in five forms (read back, copied, widened,
 * narrowed, written); some eight of such arrays are there at a time, since the collector of garbage takes them later.
 */
const [PIECE, ARRAYS] = [2 ** 24, 8];

/**
 * Bytes that the process takes beside the plan, whose own bytes a driver on the processor takes of the same memory.
 * With a GPU it is an estimate from those figures: it was measured with none.
 *
 * @param folder the model's, whose tokenizer.json counts by its size.
 * @param weightBytes of all weights on the device.
 * @param hostBytes of weights, and of sums of gradients, that stay in the machine's memory.
 */
export async function bytesBesidePlan(folder: string, weightBytes: number, hostBytes = 0): Promise<number> {
  const tokenizer = await stat(join(folder, "tokenizer.json")).then(({ size }) => size, () => 0);
  return hostBytes + PROGRAM + WORKER + VOCABULARY * tokenizer + ARRAYS * Math.min(PIECE, weightBytes);
}
