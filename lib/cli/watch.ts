import { join, resolve } from "node:path";
import { lockHolder } from "../checkpoint/lock.ts";
import { METRICS } from "../checkpoint/names.ts";
import { integer } from "../config/values.ts";
import { UserError } from "../errors.ts";
import { statOf } from "../files/stat_of.ts";
import type { Command } from "./command.ts";
import { openBrowser } from "./live.ts";
import { print } from "./output.ts";
import { serveLive } from "./serve_live.ts";
import { type Stop, STOPPED } from "./stop.ts";
import { readValues, splitOwnWords } from "./words.ts";

/** `simper watch` */
export const watch: Command = {
  usage: "DIR [--port=N] [--open]",
  about:
    "DIR is the output_dir of a run that goes on or has ended. The page is for this machine alone, and has " +
    "a button that stops the run after the step in hand, with a checkpoint.",
  options: [
    { name: "port", value: "N", doc: "Port to serve it on; by default one that is free." },
    { name: "open", doc: "Open the browser, where the program may start it (--allow-run)." },
  ],
  run,
};

async function run(words: readonly string[], stop: Stop): Promise<number> {
  const { positionals, options } = splitOwnWords(words, watch);
  if (positionals.length !== 1) throw new UserError(`expected: simper watch ${watch.usage}`, 2);
  const [folder] = positionals;
  const { port = 0 } = readValues(options, { port: integer({ min: 0, max: 65535 }) });
  if (!await statOf(join(folder, METRICS))) {
    throw new UserError(`${folder}: holds no run: expected an output_dir, with a file ${METRICS}`, 2);
  }
  const phase = async () => await lockHolder(folder) ? "runs" : "ended";
  let address: string;
  try {
    address = serveLive({ folder: resolve(folder), phase, stop: () => stopRun(folder) }, port);
  } catch (error) {
    if (!(error instanceof Deno.errors.AddrInUse)) throw error;
    throw new UserError(`--port: ${port} is in use: name another one, or none`);
  }
  stop.answer({});
  print(address);
  if (options.has("open")) openBrowser(address);
  await new Promise((resolve) => stop.signal.addEventListener("abort", resolve));
  return STOPPED;
}

/**
 * Sends the run of a folder SIGTERM.
 * @throws {Error} saying how else to stop it.
 */
async function stopRun(folder: string): Promise<void> {
  const holder = await lockHolder(folder);
  if (!holder) throw new Error("Nothing to stop: no run has this folder now.");
  if (holder.pid === undefined) throw new Error("The run is another machine's: stop it there.");
  const { pid } = holder;
  // There SIGTERM would end it without a checkpoint.
  if (Deno.build.os === "windows") throw new Error("Press Ctrl-C where the run was started.");
  // Deno.kill() wants the permission to run everything.
  const kill = new Deno.Command("kill", { args: ["-TERM", String(pid)], stdout: "null", stderr: "null" });
  const isSent = await kill.output().then(({ success }) => success, () => false);
  if (!isSent) throw new Error(`This program may not stop it: kill -TERM ${pid} in a terminal does.`);
}
