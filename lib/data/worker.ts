/**
 * Runs in a worker within `bounded_worker.ts`: renders, tokenizes and decodes for a `TokenizerPool`.
 *
 * @module
 */
import { type MessagePort, workerData } from "node:worker_threads";
import { UserError } from "../errors.ts";
import { loadTokenizer, type Tokenizer } from "../tokenizer/tokenizer.ts";
import { pairOf, promptIds } from "./pair_of.ts";
import {
  itemsOf,
  STAGES,
  type WorkerAnswer,
  type WorkerRequest,
  type WorkerStart,
} from "./worker_messages.ts";

const { port, ...start } = workerData as WorkerStart & { port: MessagePort };
const progress = new Int32Array(start.progress);
const tokenizer = load();
// It is told with the first answer.
tokenizer.catch(() => {});
/** Rows, prompts and lists of ids of the requests that were answered. */
let answered = 0;

port.on("message", (request: WorkerRequest) => void answer(request));

async function load(): Promise<Tokenizer> {
  const loaded = await loadTokenizer(start.folder, start);
  // The name of what is cached, and the model that is saved, follow from the files that the run read.
  const isSame = loaded.fingerprint === start.fingerprint && loaded.chatTemplate === start.foundTemplate;
  if (isSame) return loaded;
  throw new UserError(
    `${start.folder}: its tokenizer files are others than when the run began: let nothing write there, and start ` +
      "it again",
  );
}

async function answer(request: WorkerRequest): Promise<void> {
  const answer: WorkerAnswer = { rows: [] };
  try {
    const loaded = await tokenizer;
    if (request.kind === "prompt") {
      begin(0, "rendering");
      answer.ids = promptIds(request.prompt, loaded, tokenizing);
    } else if (request.kind === "ids") {
      answer.lists = request.texts.map((text, i) => {
        begin(i, "tokenizing");
        return loaded.encode(text, request);
      });
    } else if (request.kind === "rows") {
      for (const [i, { row, where }] of request.rows.entries()) {
        begin(i, "rendering");
        answer.rows.push(pairOf(row, where, loaded, request.rules, tokenizing));
      }
    } else {
      answer.texts = request.lists.map((ids, i) => {
        begin(i, "decoding");
        return loaded.decode(ids, request);
      });
    }
  } catch (error) {
    answer.failure = error instanceof UserError
      ? { message: error.message, status: error.status }
      : { message: String((error as Error).stack ?? error) };
  }
  answered += itemsOf(request);
  port.postMessage(answer);
}

function begin(index: number, stage: typeof STAGES[number]): void {
  Atomics.store(progress, 0, answered + index + 1);
  Atomics.store(progress, 1, STAGES.indexOf(stage));
}

function tokenizing(): void {
  Atomics.store(progress, 1, STAGES.indexOf("tokenizing"));
}
