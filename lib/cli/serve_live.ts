/** Serves live reports, on this machine alone. */
import { liveHandler, type LiveRun, type RunPhase } from "../report/live.ts";

export const HOST = "127.0.0.1";

/** What the thread that serves a live report is told: where the run writes, then how far it is. */
export type LiveOrder = { folder: string } | RunPhase;
/** What it tells. */
export type LiveMessage = { address: string } | "stop" | "shown";

/**
 * Serves the live report of `run` until the process ends.
 *
 * @param port 0: any that is free.
 * @returns its address.
 */
export function serveLive(run: LiveRun, port = 0): string {
  const server = Deno.serve({ hostname: HOST, port, onListen: () => {} }, liveHandler(run));
  return `http://${HOST}:${server.addr.port}/`;
}
