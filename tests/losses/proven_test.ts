/** Of which losses the kernels are the program's own, so that no bounds have to be checked. */
import assert from "node:assert/strict";
import { LOSS_DEFAULTS } from "../../lib/losses/definition.ts";
import { areProven, losses, lossOf } from "../../lib/losses/losses.ts";

Deno.test("a loss is proven but where a script has it as WGSL", () => {
  const config = { ...LOSS_DEFAULTS, lossType: "simper" as const };
  const own = lossOf(config);
  assert.ok(areProven(config, own));
  const { wgsl, reward } = own;
  const response = { value: 0, dChosen: 0, dRejected: 0 };
  assert.ok(areProven(config, { name: "mine", of: () => response, reward }));
  assert.ok(!areProven(config, { name: "mine", wgsl: `${wgsl}\n// mine`, reward }));
  // A built-in one that the keys do not name has constants that they do not say.
  assert.ok(!areProven(config, losses.sigmoid));
});
