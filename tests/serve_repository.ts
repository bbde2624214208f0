const TYPES: Record<string, string> = { ts: "application/typescript", json: "application/json" };

/** Serves this repository's files on the loopback, as a plain file host does. */
export function serveRepository(): { host: string; close(): Promise<void> } {
  const server = Deno.serve({ hostname: "127.0.0.1", port: 0, onListen: () => {} }, async (request) => {
    const path = new URL(request.url).pathname.slice(1);
    const body = await Deno.readFile(path).catch(() => undefined);
    if (!body) return new Response("not found", { status: 404 });
    return new Response(body, {
      headers: { "content-type": TYPES[path.split(".").at(-1)!] ?? "text/plain" },
    });
  });
  return { host: `127.0.0.1:${server.addr.port}`, close: () => server.shutdown() };
}
