import { positive } from "../config/counts.ts";
import { describe, type ValueType } from "../config/values.ts";
import { nearest, UserError } from "../errors.ts";
import type { GpuModel } from "../generation/model.ts";
import type { Sampling } from "../generation/request.ts";
import { randomSeed, SAMPLING_KEYS } from "../generation/sampling.ts";
import { unlessAborted } from "../progress/heed.ts";
import { shorten } from "../text/json.ts";
import { printable } from "../report/log.ts";
import type { Message } from "../tokenizer/chat_template.ts";
import {
  ANSWER_OPTIONS,
  type AnswerWords,
  loadShown,
  type Log,
  openLog,
  readAnswerWords,
  warnOfUnused,
} from "./answering.ts";
import type { Command } from "./command.ts";
import { enteredLines, type Entries } from "./entered.ts";
import { print, printText } from "./output.ts";
import type { Stop } from "./stop.ts";
import { takesEscapeCodes } from "./terminal.ts";
import { splitOwnWords } from "./words.ts";

/** Most tokens of a conversation, and of an answer, where nothing else is said. */
const [MAX_LENGTH, MAX_NEW_TOKENS] = [2048, 512];

/** What may be entered besides what the user says. */
const COMMANDS: Readonly<Record<string, string>> = {
  "/reset": "forget the conversation, but not the system message",
  "/system TEXT": "put another system message before it; without TEXT, none",
  "/regenerate": "answer once more",
  "/set KEY VALUE": "as /set temperature 0.7; without KEY, show what is set",
  "/save FILE":
    "add the conversation to a file of JSON Lines, a row with messages, as train and generate read it",
  "/help": "show this",
  "/quit": "end the chat; so does Ctrl-D",
};

const HELP = [
  ...Object.entries(COMMANDS).map(([usage, doc]) => `${usage.padEnd(16)} ${doc}`),
  "",
  'A line that ends in a backslash goes on in the next one; so does all between """ and """.',
  "Ctrl-C ends an answer; where none is being made, the chat. // begins what is no command.",
].join("\n");

/** `simper chat` */
export const chat: Command = {
  usage: "MODEL [--system=TEXT] [--temperature=N ...]",
  about:
    "How tokens are drawn is as the model's generation_config.json says, but for what is given here or /set. " +
    `--max_length is ${MAX_LENGTH} and --max_new_tokens ${MAX_NEW_TOKENS} by default. /help says what may be entered.`,
  options: ANSWER_OPTIONS,
  run,
};

async function run(words: readonly string[], stop: Stop): Promise<number> {
  const split = splitOwnWords(words, chat);
  const how = readAnswerWords(split);
  if (split.positionals.length !== 1) throw new UserError(`expected: simper chat ${chat.usage}`, 2);
  const [name] = split.positionals;
  const log = openLog(how.logLevel);
  await using model = await loadShown(
    name,
    { ...how.gpu, maxLength: how.maxLength, adapter: how.adapter, usualLength: MAX_LENGTH, answers: 1 },
    log,
    stop,
  );
  const isTerminal = Deno.stdin.isTerminal() && Deno.stdout.isTerminal();
  warnOfUnused(how.sampling, model.parts.generationConfig, name, log.log);
  const talk = new Talk(model, how, log, stop);
  // A model that cannot be talked to is told before anything is entered.
  await talk.check();
  if (isTerminal) log.log.info(`${name}: /help says what may be entered`);
  const hasColors = takesEscapeCodes(Deno.stdout) && !Deno.noColor;
  const show = (mark: string) => printText(hasColors ? `\x1b[1m${mark}\x1b[0m` : mark);
  const lines = enteredLines(isTerminal ? show : () => {});
  return await talk.run(lines, isTerminal);
}

/** What is set of an answer. */
type Settings = Partial<Sampling> & { maxNewTokens: number; seed: number };

const SETTINGS: Readonly<Record<string, { field: keyof Settings; type: ValueType<number> }>> = {
  max_new_tokens: { field: "maxNewTokens", type: positive },
  ...Object.fromEntries(
    Object.entries(SAMPLING_KEYS).map((
      [field, { key, type }],
    ) => [key, { field: field as keyof Sampling, type }]),
  ),
};

/** A conversation with a model. */
class Talk {
  #system?: string;
  #turns: Message[] = [];
  readonly #settings: Settings;
  /** What is added to the seed, so that an answer that is made once more is another. */
  #answers = 0;
  /** Turns of the user that the model no longer saw when it answered last. */
  #dropped = 0;

  constructor(readonly model: GpuModel, readonly how: AnswerWords, readonly log: Log, readonly stop: Stop) {
    this.#system = how.system;
    this.#settings = {
      seed: randomSeed(),
      ...how.sampling,
      maxNewTokens: how.maxNewTokens ?? model.parts.generationConfig.maxNewTokens ?? MAX_NEW_TOKENS,
    };
  }

  /**
   * @throws {UserError} for a model without chat template, and a system message that it refuses or that is too long.
   */
  async check(): Promise<void> {
    await this.#room([{ role: "user", content: "Hello" }]);
  }

  /** @returns the exit status: where nobody sees what is refused, that is a failure. */
  async run(lines: Entries, isTerminal: boolean): Promise<number> {
    let status = 0;
    for (;;) {
      this.stop.answer({});
      const { done, value } = await unlessAborted(lines.next(), this.stop.signal).catch((error) => {
        if (isTerminal) print("");
        throw error;
      });
      if (done) break;
      try {
        if (await this.#take(value)) continue;
        return status;
      } catch (error) {
        if (!(error instanceof UserError)) throw error;
        this.log.log.error(error.message);
        if (!isTerminal) status = 1;
      }
    }
    if (isTerminal) print("");
    return status;
  }

  /** @returns false for the end. */
  async #take(entry: string): Promise<boolean> {
    if (entry.trim() === "") return true;
    const [, command, rest] = /^(\/\w*)(?:\s+(.*))?$/s.exec(entry.trimEnd()) ?? [];
    if (command === undefined) {
      await this.#say(entry.replace(/^\/\//, "/"));
      return true;
    }
    const { log } = this.log;
    switch (command) {
      case "/quit":
        return false;
      case "/help":
        print(HELP);
        break;
      case "/reset":
        this.#turns = [];
        this.#dropped = 0;
        log.info("the conversation is forgotten");
        break;
      case "/system":
        this.#system = rest;
        log.info(
          rest === undefined ? "there is no system message" : "the system message is another one from now on",
        );
        break;
      case "/regenerate":
        await this.#again();
        break;
      case "/set":
        this.#set(rest);
        break;
      case "/save":
        this.#save(rest);
        break;
      default: {
        const names = Object.keys(COMMANDS).map((usage) => usage.split(" ", 1)[0]);
        const near = nearest(command, names);
        throw new UserError(
          `${shorten(command)}: ${near ? `did you mean ${near}?` : "/help says what there is"}`,
        );
      }
    }
    return true;
  }

  async #say(content: string): Promise<void> {
    await this.#answer([...this.#turns, { role: "user", content }]);
  }

  async #again(): Promise<void> {
    const last = this.#turns.at(-1);
    if (last?.role !== "assistant") throw new UserError("/regenerate: there is no answer yet");
    await this.#answer(this.#turns.slice(0, -1));
  }

  /**
   * Answers turns that end with the user's, and makes both the conversation; what a signal ended counts as far as it
   * came.
   * @throws {UserError} where there cannot be an answer: the conversation stays what it was.
   */
  async #answer(turns: readonly Message[]): Promise<void> {
    const { seed, ...settings } = this.#settings;
    const { model, stop, log: { log } } = this;
    let answer = "";
    // From here on a signal ends the answer, and only another one the chat.
    stop.isCareful = true;
    try {
      const messages = await this.#seen(turns);
      const pieces = model.generate(messages, {
        ...settings,
        seed: (seed + this.#answers++) % 2 ** 53,
        stop: this.how.stop,
        signal: stop.signal,
      });
      try {
        for await (const piece of pieces) {
          answer += piece;
          printText(Deno.stdout.isTerminal() ? printable(piece) : piece);
        }
      } finally {
        print("");
      }
      if (pieces.end?.finishReason === "length") {
        const { tokens, promptTokens } = pieces.end;
        const isFull = tokens + promptTokens >= model.maxLength;
        log.info(
          `(ended at ${isFull ? `max_length, ${model.maxLength}` : `max_new_tokens, ${tokens}`} tokens)`,
        );
      }
    } catch (error) {
      if (!stop.signal.aborted || error !== stop.signal.reason) throw error;
      log.info("(stopped)");
      if (answer === "") return;
    } finally {
      stop.isCareful = false;
      stop.again();
    }
    this.#turns = [...turns, { role: "assistant", content: answer }];
  }

  /**
   * What the model sees: where the context is full, the first turns are left out, so that there is room for an answer.
   * @throws {UserError} where what was said last alone leaves none.
   */
  async #seen(turns: readonly Message[]): Promise<Message[]> {
    const { maxLength } = this.model;
    const wanted = Math.min(this.#settings.maxNewTokens, Math.floor(maxLength / 4));
    const starts = turns.flatMap(({ role }, i) => role === "user" ? [i] : []);
    let dropped = 0;
    while (await this.#room(turns.slice(starts[dropped])) < wanted && dropped + 1 < starts.length) {
      dropped++;
    }
    if (dropped > this.#dropped) {
      this.log.log.info(
        `(the context of ${maxLength} tokens is full: the model does not see the first ` +
          `${dropped === 1 ? "turn" : `${dropped} turns`} any more)`,
      );
    }
    this.#dropped = dropped;
    return this.#whole(turns.slice(starts[dropped]));
  }

  /** Tokens that messages leave for an answer: at least one, or nothing where others can still be left out. */
  async #room(turns: readonly Message[]): Promise<number> {
    const { maxLength } = this.model;
    const count = await this.model.countTokens(this.#whole(turns));
    if (count < maxLength) return maxLength - count;
    if (turns.length > 1) return 0;
    throw new UserError(
      `expected fewer than ${maxLength} tokens, the context (--max_length), found ${count} in what was said last` +
        `${this.#system === undefined ? "" : " and the system message"}`,
    );
  }

  #whole(turns: readonly Message[]): Message[] {
    return [...this.#system === undefined ? [] : [{ role: "system", content: this.#system }], ...turns];
  }

  #set(words: string | undefined): void {
    const [key, text] = words?.split(/[\s=]+/, 2) ?? [];
    if (key === undefined) {
      for (const [name, { field }] of Object.entries(SETTINGS)) {
        print(`${name.padEnd(20)} ${this.#settings[field] ?? "the model's own"}`);
      }
      return;
    }
    if (!Object.hasOwn(SETTINGS, key)) {
      const near = nearest(key, Object.keys(SETTINGS));
      throw new UserError(
        `/set: expected ${near ?? `one of ${Object.keys(SETTINGS).join(", ")}`}, found ${shorten(key)}`,
      );
    }
    const { field, type } = SETTINGS[key];
    const value = type.read(text);
    if (value === undefined) {
      throw new UserError(
        `/set ${key}: expected ${type.expected}, found ${text === undefined ? "nothing" : describe(text)}`,
      );
    }
    this.#settings[field] = value;
    if (field === "seed") this.#answers = 0;
    warnOfUnused(
      { temperature: this.#settings.temperature, [field]: value },
      this.model.parts.generationConfig,
      key,
      this.log.log,
    );
  }

  #save(file: string | undefined): void {
    if (file === undefined) throw new UserError("/save: expected a file, as in /save talk.jsonl");
    if (this.#turns.length === 0) throw new UserError("/save: nothing was said yet");
    try {
      Deno.writeTextFileSync(file, `${JSON.stringify({ messages: this.#whole(this.#turns) })}\n`, {
        append: true,
      });
    } catch (error) {
      throw new UserError(`/save: ${file}: cannot be written: ${(error as Error).message}`);
    }
    this.log.log.info(`added to ${file}`);
  }
}
