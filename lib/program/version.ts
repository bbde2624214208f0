import configuration from "../../deno.json" with { type: "json" };

/** This program's version, as deno.json has it. */
export const VERSION: string = configuration.version;
