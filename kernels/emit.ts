/** Small helpers of the programs that emit WGSL. */

/** The numbers from 0 to n - 1. */
export const range = (n: number): number[] => Array.from({ length: n }, (_, i) => i);

/** Component `i` of a vector. */
export const lane = (i: number): string => "xyzw"[i];

/** A line for each number from 0 to n - 1. */
export const lines = (n: number, line: (i: number) => string): string => range(n).map(line).join("\n");
