/** Writes what is made of the program's table of keys anew: the lists in configs/README.md, and the types of keys. */
import { configReference, keyTypes } from "../lib/config/reference.ts";

const README = new URL("README.md", import.meta.url);
const text = await Deno.readTextFile(README);
await Deno.writeTextFile(README, text.slice(0, text.indexOf("\n### ") + 1) + configReference());
await Deno.writeTextFile(new URL("../lib/config/key_types.ts", import.meta.url), keyTypes());
