/** Runs beside the cases, in a worker: tells the processor time of their process, which a case that hangs cannot. */
import { Buffer } from "node:buffer";
import { writeSync } from "node:fs";
import process from "node:process";

const EVERY = 50;

setInterval(() => {
  const { user, system } = process.cpuUsage();
  writeSync(1, Buffer.from(`time ${Math.round((user + system) / 1000)}\n`));
}, EVERY);
