/** This repository's files on the loopback, as a plain file host serves them. */
const TYPES: Record<string, string> = { ts: "application/typescript", json: "application/json" };

/** @returns the host with its port, and what ends it. */
export function serveRepository(): { host: string } & AsyncDisposable {
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
    const path = new URL(request.url).pathname.slice(1);
    const body = await Deno.readFile(path).catch(() => undefined);
    if (!body) return new Response("not found", { status: 404 });
    return new Response(body, {
      headers: { "content-type": TYPES[path.split(".").at(-1)!] ?? "text/plain" },
    });
  });
  return {
    host: `127.0.0.1:${(server.addr as Deno.NetAddr).port}`,
    [Symbol.asyncDispose]: () => server.shutdown(),
  };
}
