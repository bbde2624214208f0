/** Readers with each of the faults that the harness must see, for its own test. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import process from "node:process";
import { UserError } from "../../../lib/errors.ts";
import type { Target, World } from "../target.ts";

const broken = (name: string, run: (world: World) => unknown): Target => ({
  name: `broken-${name}`,
  names: /place/,
  make: (_, world) => ({ bytes: 10, run: () => run(world) }),
});

export const BROKEN: readonly Target[] = [
  broken("hang", () => {
    for (;;);
  }),
  broken("crash", () => process.exit(3)),
  broken("stack", () => JSON.parse("{")),
  broken("place", () => {
    throw new UserError("something is wrong");
  }),
  broken("memory", () => new Uint8Array(2 ** 30).length),
  broken("escape", ({ folder }) => writeFileSync(join(folder, "../evil"), "")),
  broken("promise", async () => {
    Promise.reject(new Error("nobody waits"));
    await new Promise((resolve) => setTimeout(resolve, 1));
  }),
];
