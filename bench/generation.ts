/**
 * Prompts and answers a second, with 1, 4 and 16 requests at a time, beside transformers and transformers.js on the
 * same tokens:
 *     [PYTHON=/path/to/python] deno task bench:generation MODEL_FOLDER [--onnx=FOLDER] [--prompt=64] [--tokens=64]
 * PYTHON, with torch and transformers, adds transformers on the processor; --onnx, an export of the same model in
 * float32, adds transformers.js on the processor and over WebGPU.
 */
import { parseArgs } from "node:util";
import { exitWith } from "../lib/cli/command.ts";
import { UserError } from "../lib/errors.ts";
import { loadOntoGpu } from "../lib/generation/model.ts";
import { GREEDY } from "../lib/generation/request.ts";
import { Pipelines } from "../lib/gpu/program.ts";
import { measureCeilings, openBenchGpu } from "./harness.ts";
import { randomIds } from "./models.ts";

const USAGE = "usage: [PYTHON=/path/to/python] deno task bench:generation MODEL_FOLDER [--onnx=FOLDER] " +
  "[--prompt=64] [--tokens=64] [--requests=1,4,16]";
const TIMEOUT_MS = 600_000;

/** What a peer is asked for. */
export interface GenerationTask {
  /** As many as the most requests, all of one length: no peer has to pad. */
  prompts: number[][];
  /** Of each answer. */
  tokens: number;
  /** How many of the prompts are answered at a time. */
  requests: number[];
}

/** What it took. */
export interface GenerationResult {
  name: string;
  /**
   * For each number of requests, the seconds to the first token of all, those from there to the end, and the first
   * answer.
   */
  rates: { prefill: number; decode: number; first: number[] }[];
  /** Bytes a second of a product of a matrix and a vector. */
  bandwidth?: number;
}

/** One number of requests: a model with room for just so many. */
async function ours(
  folder: string,
  { prompts, tokens, requests }: GenerationTask,
): Promise<GenerationResult> {
  const result: GenerationResult = { name: "ours", rates: [] };
  for (const answers of requests) {
    await using model = await loadOntoGpu(folder, {
      maxLength: prompts[0].length + tokens,
      answers,
      pairs: 0,
    });
    const generator = model.parts.generator!;
    result.name = `ours, ${model.parts.gpu.name}`;
    const answer = async (ids: number[], maxNewTokens: number) => {
      const told: number[] = [];
      let first = 0;
      const request = { ids, maxNewTokens, sampling: GREEDY, eosTokenIds: [], top: 0, echo: false };
      for await (const { id } of generator.tokens(request)) {
        if (told.length === 0) first = performance.now();
        told.push(id);
      }
      return { first, told };
    };
    // Of tokens that no prompt begins with.
    await answer(prompts[0].toReversed(), 8);
    const start = performance.now();
    const all = await Promise.all(prompts.slice(0, answers).map((ids) => answer(ids, tokens)));
    const end = performance.now();
    const begun = Math.max(...all.map(({ first }) => first));
    result.rates.push({
      prefill: (begun - start) / 1000,
      decode: (end - begun) / 1000,
      first: all[0].told,
    });
  }
  return result;
}

/** A peer in a process of its own; what it writes on stderr is shown where it fails. */
async function peer(label: string, command: string, args: string[]): Promise<GenerationResult | undefined> {
  const child = new Deno.Command(command, {
    args,
    env: { XDG_RUNTIME_DIR: Deno.env.get("XDG_RUNTIME_DIR") ?? "/tmp" },
    signal: AbortSignal.timeout(TIMEOUT_MS),
  });
  const { code, signal, stdout, stderr } = await child.output();
  const line = new TextDecoder().decode(stdout).split("\n").find((text) => text.startsWith("{"));
  if (code === 0 && line) return JSON.parse(line);
  const said = new TextDecoder().decode(stderr).trimEnd().split("\n").slice(-8);
  console.log([`${label}: failed, ${signal ?? `status ${code}`}`, ...said].join("\n  "));
}

/** Bytes of the weights that a token is made from: all of the checkpoint, as it is stored there. */
async function weightBytes(folder: string): Promise<number> {
  let bytes = 0;
  for await (const { name } of Deno.readDir(folder)) {
    if (name.endsWith(".safetensors")) bytes += (await Deno.stat(`${folder}/${name}`)).size;
  }
  return bytes;
}

if (import.meta.main) {
  await exitWith(async () => {
    let parsed;
    try {
      const text = { type: "string" } as const;
      parsed = parseArgs({
        args: Deno.args,
        allowPositionals: true,
        options: {
          onnx: text,
          prompt: { ...text, default: "64" },
          tokens: { ...text, default: "64" },
          requests: { ...text, default: "1,4,16" },
        },
      });
    } catch (error) {
      throw new UserError(`${(error as Error).message}\n${USAGE}`, 2);
    }
    const { values, positionals: [folder] } = parsed;
    const [length, tokens] = [values.prompt, values.tokens].map(Number);
    const requests = values.requests.split(",").map(Number);
    if (!folder || !(length >= 1) || !(tokens >= 2) || !requests.every((count) => count >= 1)) {
      throw new UserError(`expected a model's folder and numbers\n${USAGE}`, 2);
    }
    const { vocab_size: vocabSize } = JSON.parse(await Deno.readTextFile(`${folder}/config.json`));
    const prompts = Array.from(
      { length: Math.max(...requests) },
      (_, i) => randomIds(length, vocabSize, 1 + i),
    );
    const task: GenerationTask = { prompts, tokens, requests };
    const gpu = await openBenchGpu();
    const { kernelBytes, copyBytes } = await measureCeilings(gpu, new Pipelines(gpu));
    gpu.destroy();
    const results = [await ours(folder, task)];
    const file = await Deno.makeTempFile({ suffix: ".json" });
    try {
      await Deno.writeTextFile(file, JSON.stringify(task));
      const here = (name: string) => new URL(`peers/${name}`, import.meta.url).pathname;
      const python = Deno.env.get("PYTHON");
      const found = [python && await peer("transformers", python, [here("torch_generate.py"), folder, file])];
      for (const device of values.onnx ? ["cpu", "webgpu"] : []) {
        const args = ["run", "-A", `--lock=${here("deno.lock")}`, here("transformers_js.ts")];
        found.push(
          await peer(`transformers.js, ${device}`, Deno.execPath(), [...args, values.onnx!, file, device]),
        );
      }
      for (const result of found) if (result) results.push(result);
    } finally {
      await Deno.remove(file);
    }
    const [own] = results;
    console.log(`prompts of ${length} tokens, ${tokens} tokens of each answer; tokens/s`);
    for (const { name, rates } of results) {
      for (const [i, { prefill, decode, first }] of rates.entries()) {
        const agree = first.every((id, at) => id === own.rates[i].first[at]);
        const columns = [
          name.padEnd(60),
          `${requests[i]} at a time`.padEnd(14),
          `prompts ${(requests[i] * length / prefill).toFixed(1).padStart(7)}`,
          `answers ${(requests[i] * (tokens - 1) / decode).toFixed(1).padStart(7)}`,
          `${(1000 * decode / (tokens - 1)).toFixed(1).padStart(7)} ms a step`,
          `ours x${(decode / own.rates[i].decode).toFixed(2)}`,
          agree ? "the same answer" : "ANOTHER ANSWER",
        ];
        console.log(columns.join("  "));
      }
    }
    const bytes = await weightBytes(folder);
    const reached = bytes * (tokens - 1) / own.rates[0].decode;
    const ceilings = [
      ["copyBufferToBuffer", copyBytes / 2],
      ["a kernel that copies", kernelBytes / 2],
      ...results.flatMap(({ bandwidth }) => bandwidth ? [["PyTorch's matrix x vector", bandwidth]] : []),
    ] as [string, number][];
    console.log(
      `weights of ${bytes} bytes once a step: ${(reached / 1e9).toFixed(2)} GB/s with ${
        requests[0]
      } at a time`,
    );
    for (const [name, ceiling] of ceilings) {
      console.log(
        `  ${(100 * reached / ceiling).toFixed(0)} % of what ${name} reads, ${
          (ceiling / 1e9).toFixed(1)
        } GB/s`,
      );
    }
    return 0;
  });
}
