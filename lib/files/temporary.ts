/**
 * The name under which a file is written before it gets its own: no other process, and no other write of this one,
 * has the same.
 */
export const temporaryName = (path: string) => `${path}.${crypto.randomUUID()}.tmp`;

/**
 * Whether a file of this name was on its way to `names` when its process ended; older versions had one name for each.
 */
export function isTemporaryFile(name: string, names: (name: string) => boolean): boolean {
  const [, own] = /^(.+?)(?:\.[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12})?\.tmp$/.exec(name) ?? [];
  return own !== undefined && names(own);
}
