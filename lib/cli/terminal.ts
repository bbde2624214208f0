/**
 * Whether what a stream is written stands on a terminal that knows escape codes. That `TERM` may not be read is no
 * reason to ask for it.
 */
export function takesEscapeCodes(stream: { isTerminal(): boolean }): boolean {
  const { state } = Deno.permissions.querySync({ name: "env", variable: "TERM" });
  return stream.isTerminal() && !(state === "granted" && Deno.env.get("TERM") === "dumb");
}
