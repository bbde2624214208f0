import { Backward } from "./backward.ts";
import { Forward, type SegmentCalls } from "./forward.ts";
import { type Capacity, Machine, type MachineOptions } from "./machine.ts";
import type { MemoryPlan } from "../gpu/memory_plan.ts";
import type { Parameters } from "../parameters/parameters.ts";
import type { Net } from "./net.ts";

/** Both passes of a model over one plan, segment by segment in the order in which they run. */
export interface Passes {
  forward: SegmentCalls[];
  /** Empty where nothing is trained. */
  backward: SegmentCalls[];
}

/** Makes the calls of a model's graph. Tensors are planned on the way; nothing is allocated. */
export function passesOf(net: Net, machine: Machine): Passes {
  const forward = new Forward(net, machine);
  const calls = net.segments.map((segment) => ({ segment, calls: forward.calls(segment) }));
  if (!machine.options.training) return { forward: calls, backward: [] };
  const backward = new Backward(net, machine, forward);
  const backwardCalls = backward.calls();
  return {
    forward: calls.map(({ segment, calls }) => ({
      segment,
      calls: [...calls, ...forward.packing(segment, backward.unpacked)],
    })),
    backward: backwardCalls,
  };
}

/** What the ops of `net` make their calls with. */
export const machineOf = (
  net: Net,
  plan: MemoryPlan,
  parameters: Parameters,
  capacity: Capacity,
  options: MachineOptions,
): Machine =>
  new Machine(
    plan,
    parameters,
    capacity,
    {
      hidden: net.hiddenSize,
      vocabulary: net.vocabSize,
      rotary: net.ropes.map(({ dimensions }) => dimensions),
      windows: net.windows.length,
      vector: net.longestVector,
      statistics: net.finalStatistics,
      boundaries: { received: net.received !== undefined, sent: net.sent !== undefined },
      ...(net.inputEmbeddings.isOnHost && !net.received && { hostTable: net.inputEmbeddings }),
    },
    options,
  );
