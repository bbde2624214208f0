import { Backward } from "./backward.ts";
import { Forward, type SegmentCalls } from "./forward.ts";
import type { Machine } from "./machine.ts";
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
