// Prometheus' own client: its text format has rules of escaping and order.
import { Counter, Gauge, Histogram, Registry } from "npm:prom-client@^15.1.3";
import type { ServedModel } from "./served_model.ts";

/** Upper bounds of the buckets of times, in seconds. */
const SECONDS = [0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300];

/** What is counted, as `/metrics` shows it. */
export class Metrics {
  readonly registry = new Registry();
  readonly #requests = new Counter({
    name: "simper_requests_total",
    help: "Requests that were answered.",
    labelNames: ["path", "status"],
    registers: [this.registry],
  });
  readonly #seconds = new Histogram({
    name: "simper_request_duration_seconds",
    help: "Seconds from a request to a model to the end of its answers.",
    buckets: SECONDS,
    registers: [this.registry],
  });
  readonly #first = new Histogram({
    name: "simper_time_to_first_token_seconds",
    help: "Seconds from a request to its first token.",
    labelNames: ["model"],
    buckets: SECONDS,
    registers: [this.registry],
  });
  readonly #promptTokens = this.#tokens("simper_prompt_tokens_total", "Tokens of prompts.");
  readonly #generationTokens = this.#tokens("simper_generation_tokens_total", "Tokens of answers.");

  constructor(models: readonly ServedModel[], requestsInHand: () => number) {
    const gauge = (name: string, help: string, of: (load: ServedModel["generator"]["load"]) => number) =>
      new Gauge({
        name,
        help,
        labelNames: ["model"],
        registers: [this.registry],
        collect() {
          for (const { name, generator } of models) this.set({ model: name }, of(generator.load));
        },
      });
    gauge("simper_answers_running", "Answers that are being made.", (load) => load.running);
    gauge("simper_answers_waiting", "Answers that wait.", (load) => load.waiting);
    gauge("simper_kept_tokens", "Tokens whose keys and values are kept.", (load) => load.keptTokens);
    gauge("simper_most_tokens", "Tokens whose keys and values can be kept.", (load) => load.mostTokens);
    new Gauge({
      name: "simper_requests_in_hand",
      help: "Requests that are answered or wait.",
      registers: [this.registry],
      collect() {
        this.set(requestsInHand());
      },
    });
  }

  request(path: string, status: number): void {
    this.#requests.inc({ path, status });
  }

  /** A model has answered a request, or who asked is gone. */
  answered(seconds: number): void {
    this.#seconds.observe(seconds);
  }

  firstToken(model: string, seconds: number): void {
    this.#first.observe({ model }, seconds);
  }

  tokens(model: string, prompt: number, answer: number): void {
    this.#promptTokens.inc({ model }, prompt);
    this.#generationTokens.inc({ model }, answer);
  }

  #tokens(name: string, help: string) {
    return new Counter({ name, help, labelNames: ["model"], registers: [this.registry] });
  }
}
