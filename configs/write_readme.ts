/** Writes the tables of keys in configs/README.md anew, from the program's own table; `deno task keys` formats them too. */
import { configReference } from "../lib/config/reference.ts";

const README = new URL("README.md", import.meta.url);
const text = await Deno.readTextFile(README);
await Deno.writeTextFile(README, text.slice(0, text.indexOf("\n|") + 1) + configReference());
