import { UserError } from "../errors.ts";
import { describeAdapter, openGpu } from "../gpu/device.ts";
import type { Command } from "./command.ts";
import { writeError } from "./output.ts";
import { splitOwnWords } from "./words.ts";

const PACKAGES = ["mesa-vulkan-drivers", "libvulkan1"];

async function hasAdapter(): Promise<boolean> {
  const { success } = await new Deno.Command(Deno.execPath(), {
    args: ["eval", "--no-config", "Deno.exit(await navigator.gpu.requestAdapter() ? 0 : 1)"],
    stdout: "null",
    stderr: "null",
  }).output();
  return success;
}

/** Runs a command in the foreground, as root where this is not root already. */
async function asRoot(command: string, ...args: string[]): Promise<void> {
  const [first, ...rest] = Deno.uid() === 0 ? [command, ...args] : ["sudo", command, ...args];
  writeError(`+ ${[first, ...rest].join(" ")}\n`);
  const { success } = await new Deno.Command(first, {
    args: rest,
    env: { DEBIAN_FRONTEND: "noninteractive" },
    stdin: "inherit",
  }).spawn().status;
  if (!success) throw new UserError(`${command} failed: install ${PACKAGES.join(" and ")} by hand`);
}

async function isDebian(): Promise<boolean> {
  return await Deno.stat("/etc/debian_version").then(() => true, () => false);
}

/** `simper setup` */
export const setup: Command = {
  usage: "",
  about: "On Debian and Ubuntu, the software driver is installed where there is none.",
  run,
};

async function run(words: readonly string[]): Promise<number> {
  const [unknown] = splitOwnWords(words, setup).positionals;
  if (unknown !== undefined) throw new UserError(`simper setup takes no words, found ${unknown}`, 2);
  // A fresh process looks for the adapter each time, since a driver installed meanwhile is not seen by a running one.
  if (!await hasAdapter() && await isDebian()) {
    await asRoot("apt-get", "update", "-q");
    await asRoot("apt-get", "install", "-y", "-q", "--no-install-recommends", ...PACKAGES);
  }
  const gpu = await openGpu();
  writeError(`adapter: ${describeAdapter(gpu)}\n`);
  gpu.destroy();
  return 0;
}
