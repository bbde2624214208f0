import { hostname } from "node:os";

/** The machine's name. */
export function hostName(): string {
  try {
    return hostname();
  } catch {
    // Deno asks for a permission.
    return "this-machine";
  }
}
