/**
 * Counts the bytes that code asks for by number: a size read from a hostile file. Memory that is asked for and never
 * touched does not show in the process's size, so the constructors themselves are watched. Import this before all else.
 */
import { Buffer } from "node:buffer";

/** The largest request and all of them together since `resetAllocations`. */
export const allocations = { largest: 0, total: 0 };

export function resetAllocations(): void {
  allocations.largest = allocations.total = 0;
}

function count(bytes: unknown): void {
  if (typeof bytes !== "number" || !(bytes > 0)) return;
  allocations.largest = Math.max(allocations.largest, bytes);
  allocations.total += bytes;
}

// deno-lint-ignore no-explicit-any -- globals are replaced by name
const globals = globalThis as any;

function watch(name: string, bytesEach: number): void {
  globals[name] = new Proxy(globals[name], {
    construct(target, args, newTarget) {
      if (args.length === 1 && typeof args[0] === "number") count(args[0] * bytesEach);
      return Reflect.construct(target, args, newTarget === globals[name] ? target : newTarget);
    },
  });
}

for (const name of ["ArrayBuffer", "Uint8Array", "Int8Array"]) watch(name, 1);
for (const name of ["Uint16Array", "Int16Array", "Float16Array"]) watch(name, 2);
for (const name of ["Uint32Array", "Int32Array", "Float32Array"]) watch(name, 4);
for (const name of ["Array", "Float64Array", "BigInt64Array", "BigUint64Array"]) watch(name, 8);
for (const name of ["alloc", "allocUnsafe"] as const) {
  const original = Buffer[name];
  // deno-lint-ignore no-explicit-any
  Buffer[name] = ((size: number, ...rest: any[]) => {
    count(size);
    return original(size, ...rest as []);
  }) as typeof original;
}
