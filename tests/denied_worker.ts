/** Runs in a worker, and tells what it may do. */
const attempts: Record<string, () => unknown> = {
  read: () => Deno.readTextFileSync(new URL("denied_worker.ts", import.meta.url)),
  write: () => Deno.writeTextFileSync(new URL("written.txt", import.meta.url), ""),
  env: () => Deno.env.get("HOME"),
  run: () => new Deno.Command(Deno.execPath(), { args: ["--version"] }).outputSync(),
  net: () => Deno.listen({ hostname: "127.0.0.1", port: 0 }).close(),
  sys: () => Deno.hostname(),
  ffi: () => Deno.dlopen("libc.so.6", {}),
};

(self as unknown as { postMessage(found: unknown): void }).postMessage(Object.fromEntries(
  Object.entries(attempts).map(([name, attempt]) => {
    try {
      attempt();
      return [name, "done"];
    } catch (error) {
      return [name, (error as Error).name];
    }
  }),
));
