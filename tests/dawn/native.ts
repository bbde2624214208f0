/** How a process gets Dawn, and whether there is a driver for it. */

const ENGINE = { SIMPER_WEBGPU_ENGINE: "dawn" };
/** What `deno` needs for Dawn beside the permissions that tests have. */
export const NATIVE = ["--frozen", "--lock=lib/gpu/dawn.lock", "--allow-ffi"];

/** `deno` with Dawn as the engine, and `more` of its environment. */
export const onDawn = (
  args: readonly string[],
  { more = {}, stderr = "inherit" }: { more?: Record<string, string>; stderr?: "inherit" | "piped" } = {},
): Deno.Command =>
  new Deno.Command(Deno.execPath(), {
    args: [...args],
    env: { ...ENGINE, ...more },
    stdin: "null",
    stderr,
    stdout: "inherit",
  });

/** Why nothing can be run on Dawn here; nothing where it can. Looks in a process of its own, whose device ends with it. */
export async function whyNoDawn(): Promise<string | undefined> {
  const probe = ["run", "--quiet", ...NATIVE, "--allow-env", "tests/dawn/probe.ts"];
  const { success, stderr } = await onDawn(probe, { stderr: "piped" }).output();
  return success ? undefined : new TextDecoder().decode(stderr).trim();
}
