/** What ends a run before its last step: bad numbers, a GPU that fails, a disk that is full. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { alone } from "../../lib/distributed/communicator.ts";
import { ALONE } from "../../lib/distributed/grid.ts";
import { checkFinite } from "../../lib/run/guard.ts";
import type { PairResult } from "../../lib/training/metrics.ts";
import { openCheckpoint } from "../../lib/safetensors/read.ts";
import { assertEqualBytes } from "../equal_bytes.ts";
import { ls, refusal, run, weightsOf } from "../in_process.ts";
import { modelWith } from "../model_with.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

/** This machine's GPU, whose device `use` hears of. */
function gpuWith(use: (device: GPUDevice) => void): GPU {
  const requestAdapter = async (options?: GPURequestAdapterOptions) => {
    const adapter = (await navigator.gpu.requestAdapter(options))!;
    const requestDevice = async (descriptor?: GPUDeviceDescriptor) => {
      const device = await adapter.requestDevice(descriptor);
      use(device);
      return device;
    };
    const { limits, features, info } = adapter;
    return { limits, features, info, requestDevice };
  };
  return { requestAdapter } as unknown as GPU;
}

const FAILURES: Record<string, { fail: (device: GPUDevice) => void; says: RegExp }> = {
  "a lost device": {
    fail: (device) => device.destroy(),
    says: /^steps? (6|6 to \d+): the GPU device was lost \(destroyed\).*start again/s,
  },
  "a validation error": {
    fail: (device) =>
      void device.createBuffer({ size: 16, usage: GPUBufferUsage.MAP_READ | GPUBufferUsage.STORAGE }),
    says: /^steps? (6|6 to \d+): the GPU reported an error: .*please report it/s,
  },
  "a GPU out of memory": {
    fail: (device) =>
      void device.dispatchEvent(
        new GPUUncapturedErrorEvent("uncapturederror", {
          error: new GPUOutOfMemoryError("no memory is left"),
        }),
      ),
    says:
      /^steps? (6|6 to \d+): the GPU reported an error: no memory is left\nset gradient_checkpointing: true/s,
  },
};

Deno.test("a GPU that fails ends a run with the step and what to try, and the same command goes on", () =>
  withTemporaryFolder(async (folder) => {
    const unbroken = await run(join(folder, "unbroken"));
    for (const [name, { fail, says }] of Object.entries(FAILURES)) {
      const out = join(folder, name);
      let device: GPUDevice;
      const message = await refusal(
        run(out, [], {
          gpu: gpuWith((opened) => device = opened),
          onStep: ({ step }) => step === 5 && fail(device),
        }),
        1,
      );
      assert.match(message, says, name);
      assert.match(message, /the last checkpoint is .*checkpoint-4: the same command goes on from it$/, name);
      const resumed = await run(out);
      assert.equal(resumed.trainLoss, unbroken.trainLoss, name);
      assertEqualBytes(await weightsOf(out), await weightsOf(join(folder, "unbroken")), name);
    }
  }));

Deno.test("a weight that became infinite is found before the next update, with the pair and the first bad tensor", () =>
  withTemporaryFolder(async (folder) => {
    const out = join(folder, "out");
    let device: GPUDevice;
    const weights: GPUBuffer[] = [];
    const gpu = gpuWith((opened) => {
      device = opened;
      const create = device.createBuffer.bind(device);
      device.createBuffer = (descriptor) => {
        const buffer = create(descriptor);
        if (descriptor.label?.startsWith("weights")) weights.push(buffer);
        return buffer;
      };
    });
    // The embedding is the first parameter.
    const spoil = () => device.queue.writeBuffer(weights[0], 0, new Float32Array(48 * 300).fill(Infinity));
    const message = await refusal(run(out, [], { gpu, onStep: ({ step }) => step === 5 && spoil() }), 1);
    assert.match(message, /^step \d+: the loss of tests\/golden\/llama\/pairs\.jsonl:\d is not finite/);
    assert.match(
      message,
      /first bad tensor is the weight model\.embed_tokens\.weight \(element 0 is Infinity\)/,
    );
    assert.match(message, /Try a lower learning_rate/);
    assert.match(
      message,
      /the last checkpoint is \S+checkpoint-4: as model_name_or_path it begins a new run/,
    );
    const checkpoint = await openCheckpoint(join(out, "checkpoint-4"));
    for (const name of checkpoint.tensors.keys()) {
      assert.ok((await checkpoint.readF32(name)).every(Number.isFinite), name);
    }
    await checkpoint.close();
  }));

/** What a run of a changed model says, of which nothing may be saved. */
async function refusalWith(
  folder: string,
  name: string,
  change: (values: Float32Array) => void,
): Promise<string> {
  const model = await modelWith(folder, (tensor) => {
    if (tensor.name === name) change(tensor.values);
  });
  const message = await refusal(run(join(folder, "out"), [`--model_name_or_path=${model}`]), 1);
  assert.match(message, /there is no checkpoint yet$/);
  assert.deepEqual(ls(join(folder, "out")), ["metrics.jsonl", "report.json", "trainer_state.json"]);
  return message;
}

Deno.test("an activation that overflows is named with the kernel and the weights before it", () =>
  withTemporaryFolder(async (folder) => {
    const name = "model.layers.1.mlp.down_proj.weight";
    const message = await refusalWith(folder, name, (values) => values.fill(3e38));
    assert.match(message, /^step 1: the loss of \S+pairs\.jsonl:1 is not finite/);
    assert.match(message, /first bad tensor is "[^"]+" \(element \d+ is -?(Infinity|NaN)\)/);
    assert.match(message, /the kernel gemm_nt .* leaves at model\.layers\.1\.mlp\.down_proj\.weight/);
  }));

Deno.test("a log-probability of minus infinity stops a run whose loss and gradient are finite", () =>
  withTemporaryFolder(async (folder) => {
    // exp(-inf) is 0, and so is its derivative.
    const change = (values: Float32Array) => values.forEach((value, i) => values[i] = value * 2e38);
    const message = await refusalWith(folder, "lm_head.weight", change);
    assert.match(message, /^step 1: the loss of \S+pairs\.jsonl:\d is not finite.*weights are as they were/s);
  }));

Deno.test("one figure of a pair that is not finite names that pair: its loss, or a sum of chosen or of rejected alone", async () => {
  const pair = { chosen: { ids: [1, 2], promptLength: 1 }, truncated: false as const, where: "" };
  const figures = { entropy: 1, logits: 0, correct: 1 };
  const fine: PairResult = {
    ...{ loss: -0.1, chosen: -3, rejected: -4, chosenLabels: 2, rejectedLabels: 2 },
    ...{ chosenFigures: figures, rejectedFigures: figures },
  };
  // A run of three pairs whose passes, run again, show nothing.
  const run = {
    prepared: {
      sampler: {
        pairs: 3,
        perBatch: 3,
        batchesPerStep: 1,
        epochs: 1,
        maxSteps: 1,
        strategy: "sequential",
        seed: 1,
      },
      train: { where: (i: number) => `pairs.jsonl:${i + 1}`, read: () => Promise.resolve([pair]) },
    },
    planned: {
      optimizer: { brokenParameters: () => Promise.resolve([]) },
      runner: { updatesEarly: false },
      decoder: {
        walkForward: () => Promise.resolve(false),
        walkBackward: () => Promise.resolve(false),
        net: { windows: [undefined] },
        boundaries: {},
      },
    },
    communicator: alone,
    ranks: ALONE,
  } as unknown as Parameters<typeof checkFinite>[0];
  const step = { step: 0, tokens: 6, sequenceTokens: 8, flops: 1 };
  for (const figure of ["loss", "chosen", "rejected"] as const) {
    for (const value of [-Infinity, NaN]) {
      const pairs = [fine, { ...fine, [figure]: value }, fine];
      const message = await refusal(
        checkFinite(run, { ...step, pairs, clip: { norm: NaN, broken: true } }),
        1,
      );
      assert.match(message, /^step 1: the loss of pairs\.jsonl:2 is not finite/, `${figure} ${value}`);
    }
  }
  await checkFinite(run, { ...step, pairs: [fine], clip: { norm: 1, broken: false } });
});

Deno.test("weights that the last update made infinite are neither put in a checkpoint nor saved", () =>
  withTemporaryFolder(async (folder) => {
    const overrides = [
      "--max_steps=1",
      "--learning_rate=3e38",
      "--lr_scheduler_type=constant",
      "--warmup_ratio=0",
    ];
    const saving = await refusal(run(join(folder, "a"), overrides), 1);
    assert.match(saving, /^checkpoint-1 was not written: \S+ holds -?(NaN|Infinity) after the last update/);
    const ending = await refusal(run(join(folder, "b"), [...overrides, "--save_strategy=no"]), 1);
    assert.match(ending, /^\S+ holds -?(NaN|Infinity) after the last update, and is not saved/);
    assert.ok(![...ls(join(folder, "a")), ...ls(join(folder, "b"))].includes("model.safetensors"));
  }));
