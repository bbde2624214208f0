/** The program: `simper COMMAND ...`. A command is loaded when it is asked for, so that help comes at once. */
import { nearest, UserError } from "../errors.ts";
import { usualEngine } from "../gpu/device.ts";
import { shorten } from "../text/json.ts";
import { VERSION } from "../program/version.ts";
import { type Command, exitWith } from "./command.ts";
import { print, writeError } from "./output.ts";
import { Stop } from "./stop.ts";

/** A command by what it is for. */
interface Entry {
  summary: string;
  load(): Promise<Command>;
}

/** In the order in which they are used. */
const COMMANDS: Readonly<Record<string, Entry>> = {
  train: {
    summary: "Train a model on preference pairs, as a run file says",
    load: async () => (await import("./train.ts")).train,
  },
  compare: {
    summary: "Train and measure several losses, settings or seeds beside each other, as a run file says",
    load: async () => (await import("./compare.ts")).compare,
  },
  generate: {
    summary: "Answer prompts, of the command line, standard input or a file, with one model or several",
    load: async () => (await import("./generate.ts")).generate,
  },
  chat: {
    summary: "Talk to a model in the terminal",
    load: async () => (await import("./chat.ts")).chat,
  },
  eval: {
    summary: "Measure models on preference pairs or a text, side by side, without training",
    load: async () => (await import("./eval.ts")).evaluation,
  },
  watch: {
    summary: "Show the report of a run in the browser while it goes on",
    load: async () => (await import("./watch.ts")).watch,
  },
  plan: {
    summary: "Say what memory a run takes, and how many steps it has, before it begins",
    load: async () => (await import("./plan.ts")).plan,
  },
  data: {
    summary: "Show pairs as the model will see them, how long they are and what was cut",
    load: async () => (await import("./data.ts")).data,
  },
  serve: {
    summary: "Serve models to the clients of OpenAI",
    load: async () => (await import("./serve.ts")).serve,
  },
  fetch: {
    summary: "Fetch a model or a data set from the Hugging Face Hub and print its folder",
    load: async () => (await import("./fetch.ts")).fetch,
  },
  export: {
    summary: "Write a model as one file for llama.cpp (GGUF)",
    load: async () => (await import("./export.ts")).exportModel,
  },
  merge: {
    summary: "Merge adapters into their model",
    load: async () => (await import("./merge.ts")).merge,
  },
  "export-run": {
    summary: "Write down what another needs to get the same weights",
    load: async () => (await import("./export_run.ts")).exportRun,
  },
  "check-run": {
    summary: "Say what differs here from a run that was exported",
    load: async () => (await import("./check_run.ts")).checkRun,
  },
  tune: {
    summary: "Measure how matrix products are computed fastest on this adapter, and remember it",
    load: async () => (await import("./tune.ts")).tune,
  },
  setup: {
    summary: "Make sure that there is a WebGPU adapter",
    load: async () => (await import("./setup.ts")).setup,
  },
};

const HELP = ["--help", "-h"];
const VERSIONS = ["--version", "-V"];

/** Runs the program; with a question about it anywhere among its words, answers that alone. */
async function program(words: readonly string[]): Promise<number> {
  const [name, ...rest] = words;
  const asksForHelp = words.some((word) => HELP.includes(word)) || name === "help";
  if (!asksForHelp && words.some((word) => VERSIONS.includes(word))) {
    print(`simper ${VERSION}`);
    return 0;
  }
  if (asksForHelp) {
    const { commandHelp, programHelp } = await import("./help.ts");
    const about = words.find((word) => !word.startsWith("-") && word !== "help");
    const columns = Deno.stdout.isTerminal() ? Deno.consoleSize().columns : undefined;
    if (about === undefined) print(programHelp(COMMANDS, columns));
    else print(commandHelp(about, { ...entryOf(about), command: await entryOf(about).load() }, columns));
    return 0;
  }
  if (name === undefined) {
    const { programHelp } = await import("./help.ts");
    writeError(`${programHelp(COMMANDS)}\n`);
    return 2;
  }
  const command = await entryOf(name).load();
  usualEngine();
  if (name !== "train") (await import("./mpi.ts")).refuseRanks(name);
  const stop = new Stop();
  return await exitWith(() => command.run(rest, stop), stop);
}

function entryOf(name: string): Entry {
  if (Object.hasOwn(COMMANDS, name)) return COMMANDS[name];
  const names = Object.keys(COMMANDS);
  const near = nearest(name, names);
  const known = near ? `did you mean ${near}?` : `expected one of ${names.join(", ")}`;
  throw new UserError(
    `${
      name === "" ? '""' : shorten(name)
    }: no such command: ${known}\n\`simper --help\` says what each is for`,
    2,
  );
}

await exitWith(() => program(Deno.args));
