import assert from "node:assert/strict";
import type { Transfer } from "../../lib/hub/snapshot.ts";
import { TransferBar } from "../../lib/report/transfer_bar.ts";

const transfer = (bytes: number, change: Partial<Transfer> = {}): Transfer => ({
  name: "org/tiny",
  bytes,
  totalBytes: 400e6,
  keptBytes: 0,
  files: 2,
  filesDone: bytes < 400e6 ? 1 : 2,
  ...change,
});

/** A bar with a clock that the test sets. */
function barAt(isTerminal: boolean) {
  const written: string[] = [];
  const clock = { now: 0 };
  const bar = new TransferBar({
    write: (text) => written.push(text),
    isTerminal,
    columns: 200,
    now: () => clock.now,
  });
  const at = (now: number, transfer: Transfer) => {
    clock.now = now;
    bar.update(transfer);
  };
  return { bar, at, written };
}

Deno.test("a transfer on a terminal redraws one line with rate and time left", () => {
  const { bar, at, written } = barAt(true);
  at(0, transfer(0));
  at(50, transfer(1e6));
  at(2000, transfer(100e6));
  assert.deepEqual(written.length, 2, "it is not drawn more often than can be seen");
  assert.equal(
    written[1],
    "\r\x1b[2K[=====>              ] org/tiny  1/2 files  100.0 MB of 400.0 MB  50.0 MB/s  0:06 left",
  );
  bar.write("a warning\n");
  assert.equal(written[2], `\r\x1b[2Ka warning\n${written[1].slice("\r\x1b[2K".length)}`);
  at(2001, transfer(400e6));
  assert.match(written.at(-2)!, /2\/2 files {2}400\.0 MB of 400\.0 MB/);
  assert.equal(written.at(-1), "\n");
});

Deno.test("elsewhere a transfer is a plain line every few seconds, and one at the end", () => {
  const { at, written } = barAt(false);
  for (let second = 0; second <= 11; second++) at(second * 1000, transfer(second * 10e6));
  at(12_000, transfer(400e6));
  assert.equal(written.length, 3);
  assert.ok(written.every((line) => line.endsWith("\n") && !line.includes("\x1b")));
  assert.match(written[0], /^org\/tiny {2}1\/2 files {2}50\.0 MB of 400\.0 MB {2}10\.0 MB\/s {2}0:35 left/);
});

Deno.test("bytes of an earlier start are no part of the rate", () => {
  const { at, written } = barAt(false);
  at(0, transfer(200e6, { keptBytes: 200e6 }));
  at(5000, transfer(250e6, { keptBytes: 200e6 }));
  assert.match(written[0], /250\.0 MB of 400\.0 MB {2}10\.0 MB\/s {2}0:15 left/);
  // Those of a file that is come to on the way neither.
  at(10_000, transfer(380e6, { keptBytes: 280e6 }));
  assert.match(written[1], /380\.0 MB of 400\.0 MB {2}10\.0 MB\/s {2}0:02 left/);
});
