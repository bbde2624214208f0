/**
 * Dawn, the WebGPU of Chrome, as a native addon of npm: the optional second engine. It offers what the runtime's own
 * does not, subgroup matrices above all, and is loaded only where it is asked for.
 */
import { UserError } from "../errors.ts";
import { shorten } from "../text/json.ts";

/**
 * 51 MB. `dawn.lock`, beside this, is deno.lock with it: what stands in a lock is fetched by everybody who starts the
 * program. Not a literal where it is imported, so that nobody has it fetched, and no browser looks for it, who does
 * not ask for it.
 */
const PACKAGE = "npm:webgpu@0.6.2";

/** Subgroup matrices count as unsafe as long as no standard has them. */
const UNSAFE = "allow_unsafe_apis";
/** Leaves out the checks of every index. */
const UNCHECKED = "disable_robustness";

/**
 * What is changed of Dawn.
 *
 * @param areProven whether all kernels will be this program's own: `deno task test:bounds` has none of them come by an
 * access out of bounds. No GPU has measured what it gives, and a driver on the processor gains nothing
 * (kernels/REJECTED.md).
 */
export const dawnFeatures = (areProven: boolean): string[] => areProven ? [UNSAFE, UNCHECKED] : [UNSAFE];

/** What the package has of Dawn: WebGPU's entry point, by options of text. */
interface Dawn {
  create(options: string[]): GPU;
}

/**
 * Every entry point of this process. What came of one uses it until it is collected itself, which may be long after
 * its device was destroyed: with the entry point collected before, the process crashes.
 */
const kept: GPU[] = [];

/**
 * Dawn's entry point.
 *
 * @param changes what is changed of it: `dawnFeatures`.
 * @param gpuId the number, from 0, or a part of the name of one of its adapters.
 * @throws {UserError} where the package cannot be had, or there is no such adapter.
 */
export async function dawnGpu(
  changes: readonly string[],
  gpuId?: string,
  load: () => Promise<Dawn> = () => import(PACKAGE),
): Promise<GPU> {
  const { create } = await load().catch(notLoaded);
  const features = [`enable-dawn-features=${changes.join(",")}`];
  const names = gpuId === undefined ? [] : await namesOf(create);
  // Where there is none at all, that is what is wrong.
  const isAny = gpuId === undefined || names.length === 0;
  const gpu = create(isAny ? features : [...features, `adapter=${chosen(gpuId, names)}`]);
  kept.push(gpu);
  return gpu;
}

/** Says what is in the way of the package, and what to do. */
function notLoaded(error: Error): never {
  // A permission that is missing is told by who knows how it is given.
  if (error.name === "NotCapable") throw error;
  const [why] = error.message.split("\n");
  if (/lockfile is out of date/.test(why)) {
    throw new UserError(
      "webgpu_engine: dawn is not in the lock file of this process, which --frozen keeps as it is: " +
        "`deno task dawn COMMAND ...` has one with it, as the npm package does where --webgpu_engine=dawn is on the " +
        "command line; `mpirun -n N deno task dawn train ...` starts ranks so",
      2,
    );
  }
  throw new UserError(
    `webgpu_engine: dawn is not installed, and cannot be fetched now (${shorten(why)}): ` +
      `\`deno cache ${PACKAGE}\` installs it where the npm registry is reached`,
    1,
    "NO_GPU",
  );
}

/** Dawn lists its adapters only to who asks for one that is not there. */
async function namesOf(create: Dawn["create"]): Promise<string[]> {
  const gpu = create(["adapter=an adapter that there is none of"]);
  const message = await gpu.requestAdapter().then(() => "", (error: Error) => error.message);
  return [...message.matchAll(/^ \* backend: '.*?', name: '(.*)'$/gm)].map(([, name]) => name);
}

/** The name of the adapter that `gpuId` means, where Dawn can be asked for it. */
function chosen(gpuId: string, names: readonly string[]): string {
  const index = adapterIndex(gpuId, names);
  const name = names[index];
  // It takes the first that has this in its name.
  const taken = names.findIndex((other) => other.includes(name));
  if (taken === index) return name;
  throw new UserError(
    `gpu_id: ${gpuId} is called ${name}, as is ${taken}, and Dawn takes adapters by their names: let the ` +
      "process see that GPU alone",
    2,
  );
}

/**
 * Which of the adapters of these names `gpuId` means: a number, or a part of a name.
 * @throws {UserError} (status 2) with every adapter that there is.
 */
export function adapterIndex(gpuId: string, names: readonly string[]): number {
  const index = /^\d+$/.test(gpuId)
    ? Number(gpuId)
    : names.findIndex((name) => name.toLowerCase().includes(gpuId.toLowerCase()));
  if (index >= 0 && index < names.length) return index;
  const known = names.map((name, i) => `${i} (${name})`).join(", ");
  throw new UserError(
    `gpu_id: expected ${known || "an adapter, of which there is none"}, or a part of a name, found ${
      shorten(gpuId)
    }`,
    2,
  );
}
