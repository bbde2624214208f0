/** What a plan says that ranks exchange and how long it takes, beside what they do. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { readConfig } from "../../lib/config/parse.ts";
import type { Communicator } from "../../lib/distributed/communicator.ts";
import { openGpu } from "../../lib/gpu/device.ts";
import { worstCase } from "../../lib/planning/estimate.ts";
import { adapterOf } from "../../lib/planning/plan.ts";
import { exchangeTime, hostOf } from "../../lib/planning/exchange_time.ts";
import { planRanks, stepTime, trafficOf } from "../../lib/planning/ranks.ts";
import { readModelConfig } from "../../lib/weights/config_file.ts";
import { task } from "../command.ts";
import { GOLDEN } from "../golden_run.ts";
import { run } from "../in_process.ts";
import { asRanks } from "../ranks.ts";
import { sharedGpu } from "../shared_gpu.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

/** A line that counts what a rank is sent by others, but for what `gather` sends. */
function counting(line: Communicator): Communicator & { bytes: number } {
  const { rank, size } = line;
  const counted = {
    ...line,
    bytes: 0,
    async allToAll(parts: Uint8Array, into: Uint8Array) {
      counted.bytes += parts.length / size * (size - 1);
      await line.allToAll(parts, into);
    },
    async allGather(own: Uint8Array, into?: Uint8Array<ArrayBuffer>) {
      if (into) counted.bytes += into.length - own.length;
      return await line.allGather(own, into);
    },
    async receive(from: number) {
      const bytes = await line.receive(from);
      counted.bytes += bytes.length;
      return bytes;
    },
    async broadcast(bytes: Uint8Array<ArrayBuffer>, from: number) {
      await line.broadcast(bytes, from);
      if (from !== rank) counted.bytes += bytes.length;
    },
  };
  return counted;
}

const STEPS = 2;
for (const way of ["zero_stage=0", "zero_stage=1", "zero_stage=2", "pipeline_parallel_size=2"]) {
  Deno.test(`the traffic that is planned for ${way} is what ranks are sent, to the byte`, () =>
    withTemporaryFolder(async (folder) => {
      const keys = [`--${way}`, "--share_gpu", `--max_steps=${STEPS}`, "--save_strategy=no"];
      const size = 2;
      const counted = await asRanks(size, async (own) => {
        const communicator = counting(own);
        let bytes = 0;
        // What comes after the steps is sent to who saves it.
        const onStep = () => void (bytes = communicator.bytes);
        const { tokens } = await run(join(folder, "out"), keys, { communicator, onStep });
        return { bytes, tokens };
      });
      const { config } = await readConfig(`${GOLDEN}/run.yaml`, keys);
      const gpu = await openGpu({ ...config, gpu: sharedGpu });
      const model = await readModelConfig(`${GOLDEN}/untied`);
      const plans = planRanks(worstCase(model, config), config, adapterOf(gpu), size);
      gpu.destroy();
      assert.equal(plans.length, way === "zero_stage=0" ? 1 : size);
      counted.forEach(({ bytes, tokens }, rank) => {
        const { planned, ranks } = plans[rank] ?? plans[0];
        const { gradients, weights, boundaries } = trafficOf(planned, ranks, config, tokens / STEPS);
        assert.equal(weights > 0, /zero_stage=[12]/.test(way));
        assert.equal(boundaries > 0, gradients === 0);
        assert.equal(bytes, STEPS * (gradients + weights + boundaries), `rank ${rank}`);
      });
    }));
}

Deno.test("a step is as long as what the GPU does not hide: an exchange beyond the last backward pass", () => {
  const work = {
    ...{ flops: 64e12, passes: 4, stages: 1, largest: 1, checkpointing: false, sums: [[8e8, 1e8], [1e8]] },
    traffic: { gradients: 6e9, weights: 3e9, boundaries: 0 },
  };
  const near = (found: number, expected: number) =>
    assert.ok(Math.abs(found - expected) < 1e-9, `${found}, expected ${expected}`);
  // 4 s of computing, of which the last backward pass is 2/3; 1 s of gradients on the line, 2 of copies, 1.5 of weights.
  const rates = { flops: 4e12, link: 6e9 };
  const time = stepTime(work, 4, rates, { copies: 2e9, sums: 8e9 });
  assert.deepEqual([time.alone, time.computing, time.link, time.host], [16, 4, 1.5, 2]);
  // All is complete when the pass is over; the last piece is then added up, told and copied.
  near(time.exposed, 2 + 0.05 + 0.05 + 0.1 + 1.5);
  near(time.total, 4 + time.exposed);
  near(time.efficiency, 4 / time.total);
  // Ten rows: what is complete in the middle passes while the rest is computed, and the line is the slowest.
  const rows = Array.from({ length: 10 }, () => [1e7]);
  const little = { ...work, sums: rows, traffic: { gradients: 6e8, weights: 0, boundaries: 0 } };
  near(stepTime(little, 4, rates, { copies: 1e10, sums: 1e10 }).exposed, 2 * 0.01 + 0.004 + 0.005 + 0.002);
});

Deno.test("the GPU waits where more is complete at once than can be on its way, and for nothing else", () => {
  const host = { copies: Infinity, sums: Infinity };
  // 4 of 8 pieces are on their way at once.
  const together = [[1, 1, 1, 1, 1, 1], [1], [1]];
  const spread = Array.from({ length: 8 }, () => [1]);
  // A second of the line for each piece: the pass of 7 s stands still from 6 s on until the second piece is sent.
  const found = exchangeTime(together, 7, 8, host);
  assert.equal(found, 6 + 8 + 0.5);
  // Of 10 s for each piece it is the pass that takes long: it goes on at 63 s, when the third is sent.
  assert.equal(exchangeTime(together, 70, 8, host), 63 + 10 + 2 + 0.5);
  assert.equal(exchangeTime(spread, 7, 8, host), 7 + 2 + 0.5);
  // A pass of which pieces come slower than they are sent hides all but the last two.
  assert.equal(exchangeTime(spread, 14, 8, host), 14 + 2 + 0.5);
  const [one, none] = [hostOf({ copies: 4, sums: 4 }, 1), hostOf({ copies: 4, sums: 4 }, 0)];
  assert.deepEqual([one.copies, one.sums, none.copies], [4, 4, 2]);
});

Deno.test("simper plan --ranks says what a rank takes, is sent, and how long a step is", async () => {
  const plan = (...words: string[]) => task("plan", `${GOLDEN}/run.yaml`, ...words);
  const { status, stdout, stderr } = await plan(
    ...["--ranks=2", "--zero_stage=2", "--link=8Mb/s", "--tflops=0.001", "--device_memory=1GB"],
  );
  assert.equal(status, 0, stderr);
  assert.match(
    stdout,
    /^ranks +2, 1 of the passes of a step each; the plan is that of the largest, the smallest takes [\d.]+ .B$/m,
  );
  assert.match(stdout, /^traffic +[\d.]+ kB of gradients and [\d.]+ kB of weights a step and rank, /m);
  assert.match(
    stdout,
    /^time of a step +about [\d.]+ s: [\d.e-]+ s of computing; the exchange takes [\d.]+ s on the link and [\d.e-]+ s on the host, side by side; [\d.]+ s of it are not hidden$/m,
  );
  assert.match(stdout, /^ +one GPU takes [\d.e-]+ s: 2 reach \d+ % of as many$/m);
  const alone = await plan("--zero_stage=2");
  assert.match(alone.stderr, /zero_stage: ignored: there is one rank; --ranks=N plans for several$/m);
  const small = await plan("--ranks=2", "--device_memory=1MB");
  assert.equal(small.status, 1, small.stderr);
  assert.match(small.stdout, /^ {2}zero_stage: 2: /m);
  for (
    const [words, message] of [
      [["--ranks=3"], "2 passes a step do not divide over 3 ranks"],
      [["--ranks=2", "--link=fast"], "--link: expected bits or bytes a second, such as 100Gb/s or 12.5GB/s"],
      [["--ranks=2", "--link=1GB/s"], "--link and --tflops say together"],
      [["--link=1GB/s", "--tflops=1"], "--link and --tflops say together, and with --ranks=N above 1"],
    ] as const
  ) {
    const refused = await plan(...words);
    assert.equal(refused.status, 2, refused.stderr);
    assert.ok(refused.stderr.includes(message), refused.stderr);
  }
});
