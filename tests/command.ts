/** Runs the command line as a user does. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

// What these tests tokenize is not to be found by a later version of the program.
const cache = mkdtempSync(join(tmpdir(), "simper-test-cache-"));
Deno.env.set("SIMPER_CACHE", cache);
addEventListener("unload", () => rmSync(cache, { recursive: true }));

/** The task that has the permissions of that engine, and takes the command as its first word. */
const IN_DAWN = Deno.env.get("SIMPER_WEBGPU_ENGINE") === "dawn" ? ["dawn"] : [];

export interface Finished {
  status: number;
  stdout: string;
  stderr: string;
}

/** `deno task NAME ARGUMENTS`, with the permissions that deno.json lists. */
export const task = (name: string, ...args: string[]) => taskWith({}, name, ...args);

/** As `task`, with environment variables. */
export async function taskWith(
  env: Record<string, string>,
  name: string,
  ...args: string[]
): Promise<Finished> {
  const { code, stdout, stderr } = await new Deno.Command(Deno.execPath(), {
    args: ["task", "--quiet", ...IN_DAWN, name, ...args],
    env,
    stdin: "null",
  }).output();
  const text = new TextDecoder();
  // Dawn has its own to say, which no level of messages keeps back.
  const own = text.decode(stderr).replaceAll(/^Warning: max\w+ artificially reduced .*\n/gm, "");
  return { status: code, stdout: text.decode(stdout), stderr: own };
}

/** The words of a task after `deno`: the file that it runs, with the permissions that deno.json lists. */
export function taskWords(name: string): string[] {
  const { tasks } = JSON.parse(Deno.readTextFileSync("deno.json"));
  return tasks[name].command.split(" ").slice(1);
}

/**
 * The training command as a process of its own, with the permissions that deno.json lists: what is killed is the run
 * itself.
 */
export function trainProcess(args: readonly string[]): Deno.Command {
  return new Deno.Command(Deno.execPath(), {
    args: [...taskWords("train"), ...args],
    stdin: "null",
    stdout: "piped",
    stderr: "piped",
  });
}
