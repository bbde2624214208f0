/** Opens a device, or says why there is none. */
import { UserError } from "../../lib/errors.ts";
import { describeAdapter, openGpu } from "../../lib/gpu/device.ts";

try {
  const gpu = await openGpu();
  console.log(`adapter: ${describeAdapter(gpu)}`);
  gpu.destroy();
  Deno.exit(0);
} catch (error) {
  if (!(error instanceof UserError)) throw error;
  console.error(error.message);
  Deno.exit(1);
}
