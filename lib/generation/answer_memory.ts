/** What stays on the GPU from pass to pass. */
import type { Gpu } from "../gpu/device.ts";
import { type ChoiceTensors, RESULT_WORDS } from "../gpu/choice_operations.ts";
import type { Tensor } from "../gpu/memory.ts";
import type { MemoryPlan } from "../gpu/memory_plan.ts";
import { readTensor, RowCounts, writeTensor } from "../gpu/program.ts";
import type { GenerationTensors } from "../graph/machine.ts";

/** A token has the prompt's mark, or how often the answer has it: see `kernels/draw.wgsl`. */
const IN_PROMPT = 0x80000000;

/** Caches of keys and values, which tokens each answer has, and what passes leave to be read. */
export class AnswerMemory {
  /** What passes bind of it. */
  readonly tensors: Omit<GenerationTensors, "choices" | "drawn">;
  readonly #caches = new Map<string, Tensor>();
  readonly #counts = new RowCounts(1);

  constructor(
    plan: MemoryPlan,
    readonly sizes: { rows: number; answers: number; vocabulary: number; results: number },
    threads: ChoiceTensors["threads"],
  ) {
    const { rows, answers, vocabulary, results } = sizes;
    const keyRows = plan.tensor("cache rows", "batch", [this.#counts.bytes / 4]);
    // Uniforms: UNIFORM, COPY_DST.
    Object.assign(keyRows.slab, { usage: 0x40 | 0x08 });
    this.tensors = {
      cache: (name, width) => {
        const known = this.#caches.get(name) ?? plan.tensor(`${name} cache`, "cache", [rows, width]);
        this.#caches.set(name, known);
        return known;
      },
      keyRows: { slot: 0, tensor: keyRows },
      seen: plan.tensor("tokens of the answers", "cache", [answers, vocabulary]),
      results: plan.tensor("results", "cache", [results, RESULT_WORDS]),
      threads,
    };
  }

  /** To be called once the plan is allocated. */
  upload(gpu: Gpu): void {
    this.#counts.set(0, { count: this.sizes.rows });
    this.#counts.upload(gpu, this.tensors.keyRows.tensor);
  }

  /** Copies `count` rows of every cache, from row `from` to row `to`. */
  copy(gpu: Gpu, from: number, to: number, count: number): void {
    const { device } = gpu;
    const caches = [...this.#caches.values()];
    const size = 4 * count * Math.max(...caches.map(({ shape: [, width] }) => width));
    // No buffer can be copied to itself.
    const between = device.createBuffer({ size, usage: 0x08 | 0x04 /* COPY_DST | COPY_SRC */ });
    const encoder = device.createCommandEncoder();
    for (const { slab, offset, shape: [, width] } of caches) {
      const bytes = 4 * width;
      encoder.copyBufferToBuffer(slab.buffer!, offset + bytes * from, between, 0, bytes * count);
      encoder.copyBufferToBuffer(between, 0, slab.buffer!, offset + bytes * to, bytes * count);
    }
    device.queue.submit([encoder.finish()]);
    between.destroy();
  }

  /** Says what the prompt of an answer is, which has nothing else yet. */
  markPrompt(gpu: Gpu, answer: number, ids: readonly number[]): void {
    const { vocabulary } = this.sizes;
    const marks = new Uint32Array(vocabulary);
    for (const id of ids) marks[id] = IN_PROMPT;
    writeTensor(gpu, this.tensors.seen, marks, answer * vocabulary);
  }

  /** The words of the first `count` results: see `kernels/choose.wgsl`. */
  async read(gpu: Gpu, count: number): Promise<Uint32Array[]> {
    const words = new Uint32Array(await readTensor(gpu, this.tensors.results, 0, count * RESULT_WORDS));
    return Array.from({ length: count }, (_, i) => words.subarray(i * RESULT_WORDS, (i + 1) * RESULT_WORDS));
  }
}
