/**
 * Compares this project with other trainers on the same adapter, in one run:
 *     deno task bench:peers
 * Each runs in a process of its own, so that one that crashes leaves the others' figures. PYTHON=/path/to/python, with
 * torch, adds PyTorch on the processor.
 */
import {
  initialWeights,
  LENGTH,
  nameOf,
  type PeerResult,
  PRODUCTS,
  sequenceIds,
  SEQUENCES,
  STEPS,
} from "./task.ts";

const TIMEOUT_MS = 300_000;
/** Largest error of a product, and largest relative difference of a loss from ours, that counts as the same result. */
const GEMM_TOLERANCE = 1e-5;
const LOSS_TOLERANCE = 1e-4;

const here = (name: string) => new URL(name, import.meta.url).pathname;

/** Weights and tokens as files, for a peer that is not TypeScript: float32 and int32, little-endian. */
async function writeTask(folder: string): Promise<void> {
  const weights: Float32Array<ArrayBuffer>[] = [];
  initialWeights((values) => weights.push(values));
  await Deno.writeFile(`${folder}/weights.f32`, new Uint8Array(await new Blob(weights).arrayBuffer()));
  const ids = Int32Array.from(sequenceIds().flat());
  await Deno.writeFile(`${folder}/ids.i32`, new Uint8Array(ids.buffer));
}

async function run(label: string, command: string, args: string[]): Promise<PeerResult | undefined> {
  const env = { XDG_RUNTIME_DIR: Deno.env.get("XDG_RUNTIME_DIR") ?? "/tmp" };
  const child = new Deno.Command(command, { args, env, signal: AbortSignal.timeout(TIMEOUT_MS) });
  const { code, signal, stdout, stderr } = await child.output();
  const line = new TextDecoder().decode(stdout).split("\n").find((text) => text.startsWith("{"));
  if (code === 0 && line) return JSON.parse(line);
  console.log(`${label}: failed, ${signal ?? `status ${code}`}`);
  console.log(
    new TextDecoder().decode(stderr).trimEnd().split("\n").slice(-8).map((text) => `  ${text}`).join("\n"),
  );
}

function checks({ gemm, step: { losses } }: PeerResult, ours: PeerResult): string {
  const problems = PRODUCTS.map(nameOf).filter((name) => !(gemm[name].error < GEMM_TOLERANCE))
    .map((name) => `GEMM ${name} is off by ${gemm[name].error.toExponential(1)}`);
  if (!losses.every(Number.isFinite)) problems.push("a loss is not finite");
  if (!(losses.at(-1)! < losses[0])) problems.push("the loss does not fall");
  const difference = Math.max(...losses.map((loss, i) => Math.abs(loss / ours.step.losses[i] - 1)));
  if (!(difference < LOSS_TOLERANCE)) problems.push(`a loss is off by ${difference.toExponential(1)}`);
  return problems.length ? `WRONG: ${problems.join(", ")}` : "ok";
}

const ratio = (own: number, other: number) =>
  `${other.toFixed(1).padStart(8)} (ours x${(own / other).toFixed(2)})`.padEnd(24);

const folder = await Deno.makeTempDir({ prefix: "simper-peers-" });
const results: PeerResult[] = [];
try {
  for (const name of ["ours", "jax", "tfjs"]) {
    const result = await run(name, Deno.execPath(), [
      "run",
      "--allow-env",
      "--allow-read",
      // What belongs to one lock file is fetched whole with the first of it: no user needs 300 MB of peers.
      ...name === "ours" ? [] : [`--lock=${here("deno.lock")}`],
      here(`${name}.ts`),
    ]);
    if (result) results.push(result);
  }
  const python = Deno.env.get("PYTHON");
  if (python) {
    await writeTask(folder);
    const result = await run("PyTorch", python, [here("torch_step.py"), folder, String(STEPS)]);
    if (result) results.push(result);
  } else {
    console.log("PyTorch: skipped; PYTHON=/path/to/python, with torch, adds it");
  }
} finally {
  await Deno.remove(folder, { recursive: true });
}

const [ours] = results;
if (!ours?.name.startsWith("ours")) Deno.exit(1);
console.log(
  `GEMM in GFLOP/s (nt: A B^T, nn: A B, tn: A^T B), and one training step of a tiny Llama on ${SEQUENCES} x ${LENGTH} tokens in tokens/s`,
);
console.log(
  ["".padEnd(40), ...PRODUCTS.map(nameOf), "step"].map((text) => text.padEnd(24)).join(" "),
);
for (const result of results) {
  const columns = [
    ...PRODUCTS.map(nameOf).map((name) => ratio(ours.gemm[name].gflops, result.gemm[name].gflops)),
    ratio(ours.step.tokensPerSecond, result.step.tokensPerSecond),
  ];
  console.log([result.name.padEnd(40), ...columns, `results ${checks(result, ours)}`].join(" "));
}
for (const { name, step } of results) {
  console.log(`losses, ${name}: ${step.losses.map((loss) => loss.toFixed(5)).join(" ")}`);
}
