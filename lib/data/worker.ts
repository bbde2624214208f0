/**
 * Runs in a Web Worker: renders and tokenises for a `TokenizerPool`.
 *
 * @module
 */
import { UserError } from "../errors.ts";
import { loadTokenizer, type Tokenizer } from "../tokenizer.ts";
import { pairOf, promptIds } from "./pair_of.ts";
import { STAGES, type WorkerAnswer, type WorkerRequest, type WorkerStart } from "./worker_messages.ts";

/** The part of a worker's global scope that is used here. */
interface WorkerScope {
  onmessage: (event: MessageEvent) => void;
  postMessage(message: WorkerAnswer): void;
}

const scope = self as unknown as WorkerScope;
let tokenizer: Promise<Tokenizer>;
let progress: Int32Array;
/** Rows and prompts of the requests that were answered. */
let answered = 0;

scope.onmessage = ({ data }: MessageEvent<WorkerStart>) => {
  progress = new Int32Array(data.progress);
  tokenizer = loadTokenizer(data.folder, data);
  // It is told with the first answer.
  tokenizer.catch(() => {});
  scope.onmessage = ({ data }: MessageEvent<WorkerRequest>) => void answer(data);
};

async function answer(request: WorkerRequest): Promise<void> {
  const answer: WorkerAnswer = { rows: [] };
  try {
    const loaded = await tokenizer;
    if (request.kind === "prompt") {
      begin(0);
      answer.ids = promptIds(request.text, loaded, tokenising);
    } else {
      for (const [i, { row, where }] of request.rows.entries()) {
        begin(i);
        answer.rows.push(pairOf(row, where, loaded, request.rules, tokenising));
      }
    }
  } catch (error) {
    answer.failure = error instanceof UserError
      ? { message: error.message, status: error.status }
      : { message: String((error as Error).stack ?? error) };
  }
  answered += request.kind === "prompt" ? 1 : request.rows.length;
  scope.postMessage(answer);
}

function begin(index: number): void {
  Atomics.store(progress, 0, answered + index + 1);
  Atomics.store(progress, 1, STAGES.indexOf("rendering"));
}

function tokenising(): void {
  Atomics.store(progress, 1, STAGES.indexOf("tokenising"));
}
