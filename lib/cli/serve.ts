import { appendFile, open } from "node:fs/promises";
import { positive, tokens } from "../config/counts.ts";
import { KEYS } from "../config/schema.ts";
import { integer, number, type ValueType } from "../config/values.ts";
import { UserError } from "../errors.ts";
import { shorten } from "../text/json.ts";
import type { LogLevel } from "../report/log.ts";
import { ApiError } from "../server/api_error.ts";
import { LIMITS, serverApp } from "../server/app.ts";
import { LOOPBACK } from "../server/guard.ts";
import { openServedModel, USUAL_LENGTH } from "../server/open_model.ts";
import type { ServedModel } from "../server/served_model.ts";
import { ADAPTER_OPTION, adapterOf, GPU_OPTIONS, openLog, readGpuWords } from "./answering.ts";
import type { Command } from "./command.ts";
import { print } from "./output.ts";
import { type Stop, STOPPED } from "./stop.ts";
import { readValues, splitOwnWords, type Words } from "./words.ts";

/** Answers at a time, as many as lm-evaluation-harness and its like ask for together. */
const ANSWERS = 16;
const HOST = "127.0.0.1";
const PORT = 8000;

/** `simper serve` */
export const serve: Command = {
  usage: "MODEL [MODEL ...] [--host=ADDRESS] [--port=N] [--api_key=KEY] [...]",
  about:
    "MODEL is a folder, or OWNER/NAME of the Hub; requests name it by the same word. Endpoints: /v1/completions, " +
    "/v1/chat/completions, /v1/models, /tokenize, /detokenize, /tokenizer_info, /health, /metrics; at / a " +
    "page shows two answers side by side. What a request does not say of sampling, the model's " +
    "generation_config.json says, and else OpenAI's defaults (temperature 1).",
  options: [
    ADAPTER_OPTION,
    {
      name: "host",
      value: "ADDRESS",
      doc: `Address to listen at; any but the loopback's demands a key. [default ${HOST}]`,
    },
    { name: "port", value: "N", doc: `Port to listen at; 0 for one that is free. [default ${PORT}]` },
    {
      name: "api_key",
      value: "KEY",
      doc:
        "What clients must bring. Better by the environment, SIMPER_API_KEY: others see the words of a command.",
    },
    {
      name: "allowed_origins",
      value: "URLS",
      doc: "Origins, parted by commas, whose pages may ask; by default none.",
    },
    {
      name: "max_length",
      value: "N",
      doc: `Most tokens of a prompt and its answer; by default the model's own most, and ${USUAL_LENGTH}.`,
    },
    { name: "max_num_seqs", value: "N", doc: `Answers that are made at a time. [default ${ANSWERS}]` },
    {
      name: "max_concurrent_requests",
      value: "N",
      doc: `Requests in hand, those that wait too; one more is refused (429). [default ${LIMITS.requests}]`,
    },
    {
      name: "preferences",
      value: "FILE",
      doc:
        "Where votes of the page are kept, a row of JSONL each, as train reads them; without it by the page alone.",
    },
    {
      name: "timeout",
      value: "SECONDS",
      doc: `For a request, its waiting included. [default ${LIMITS.seconds}]`,
    },
    ...GPU_OPTIONS,
    { name: "log_level", value: "LEVEL", doc: "debug (each request), info (the default), warning or error." },
  ],
  run,
};

interface Values {
  port: number;
  max_length: number;
  max_num_seqs: number;
  max_concurrent_requests: number;
  timeout: number;
  log_level: LogLevel;
}

const TYPES: { readonly [K in keyof Values]: ValueType<Values[K]> } = {
  port: integer({ min: 0, max: 65535 }),
  max_length: tokens(2),
  max_num_seqs: positive,
  max_concurrent_requests: positive,
  timeout: number({ min: 0.001, max: 1e6 }),
  log_level: KEYS.logLevel.type,
};

async function run(words: readonly string[], stop: Stop): Promise<number> {
  const split = splitOwnWords(words, serve);
  const { positionals: names, options } = split;
  const host = options.get("host") ?? HOST;
  const isLoopback = LOOPBACK.includes(host) || host === "::1";
  const apiKey = options.get("api_key") ?? (Deno.env.get("SIMPER_API_KEY") || undefined);
  const allowedOrigins = options.get("allowed_origins")?.split(",") ?? [];
  const values = readWords(split, { isOpen: !isLoopback && apiKey === undefined, allowedOrigins });
  const gpu = readGpuWords(split);
  const preferences = options.get("preferences");
  if (preferences !== undefined) await checkWritable(preferences);

  const adapter = adapterOf(split, names);
  const { progress, log } = openLog(values.log_level ?? "info");
  // A port that is taken is found before a model is loaded, which takes its time.
  let app = (_: Request) => Promise.resolve(new ApiError(503, "the models are being loaded").response);
  const server = listen(host, values.port ?? PORT, (request) => app(request));
  await using held = new AsyncDisposableStack();
  const models: ServedModel[] = [];
  for (const name of names) {
    const opened = openServedModel(name, {
      ...gpu,
      adapter,
      maxLength: values.max_length,
      answers: values.max_num_seqs ?? ANSWERS,
      readsOnly: true,
      log: (level, message) => log[level](message),
      onProgress: (done) => progress.update(done),
      signal: stop.signal,
    });
    models.push(held.use(await opened.finally(() => progress.finish())));
  }
  app = serverApp({
    models,
    isLoopback,
    apiKey,
    allowedOrigins,
    keep: preferences === undefined ? undefined : (row) => appendFile(preferences, `${row}\n`),
    limits: {
      requests: values.max_concurrent_requests ?? LIMITS.requests,
      seconds: values.timeout ?? LIMITS.seconds,
    },
    log: (level, message) => log[level](message),
  });
  stop.answer({});
  const shown = host.includes(":") && !host.startsWith("[") ? `[${host}]` : host;
  print(`http://${shown}:${server.addr.port}/`);
  await new Promise((resolve) => stop.signal.addEventListener("abort", resolve));
  return STOPPED;
}

/**
 * @param isOpen whether others could ask, and no key keeps them out.
 * @throws {UserError} (status 2) naming all that is wrong.
 */
function readWords(
  { positionals: names, options }: Words,
  { isOpen, allowedOrigins }: { isOpen: boolean; allowedOrigins: readonly string[] },
): Partial<Values> {
  const problems: string[] = [];
  if (names.length === 0) problems.push(`expected: simper serve ${serve.usage}`);
  const twice = names.find((name, i) => names.indexOf(name) < i);
  if (twice !== undefined) problems.push(`${twice}: named twice: requests name a model by this word`);
  if (isOpen) {
    problems.push("--host: others reach that address: expected a key too, --api_key or SIMPER_API_KEY");
  }
  for (const origin of allowedOrigins) {
    if (URL.parse(origin)?.origin === origin) continue;
    problems.push(
      `--allowed_origins: expected origins such as https://example.org, found ${shorten(origin)}`,
    );
  }
  let values: Partial<Values> = {};
  try {
    values = readValues(options, TYPES);
  } catch (error) {
    if (!(error instanceof UserError)) throw error;
    problems.push(error.message);
  }
  if (problems.length > 0) throw new UserError(problems.join("\n"), 2);
  return values;
}

async function checkWritable(path: string): Promise<void> {
  try {
    await (await open(path, "a")).close();
  } catch (error) {
    throw new UserError(`--preferences: ${path}: cannot be written: ${(error as Error).message}`, 2);
  }
}

function listen(host: string, port: number, app: (request: Request) => Promise<Response>) {
  try {
    return Deno.serve({ hostname: host.replace(/^\[(.*)\]$/, "$1"), port, onListen: () => {} }, app);
  } catch (error) {
    if (error instanceof Deno.errors.AddrInUse) {
      throw new UserError(`--port: ${port} is in use: name another one, or 0 for one that is free`);
    }
    if (error instanceof Deno.errors.AddrNotAvailable) {
      throw new UserError(`--host: ${shorten(host)}: this machine has no such address`, 2);
    }
    throw error;
  }
}
