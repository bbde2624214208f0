/**
 * Writes the tiny world that configs/tiny-sft.yaml and configs/tiny.yaml train on: text, preference pairs, a
 * tokenizer and the configuration of an untrained model. The same seed gives the same files.
 *
 *   deno run --allow-read --allow-write configs/tiny/make_world.ts
 *
 * A fifth of the facts (`heldOut`) appear in no training pair, and the one way of asking about each of them
 * that the test pairs use appears in no training text: a test prompt is new to the model at every stage.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { dirname, join } from "node:path";
import { gzipSync } from "node:zlib";
import { trainTokenizer } from "./train_tokenizer.ts";
import { CLOSINGS, type Fact, type Manner, OPENINGS, type Topic, TOPICS, type Voice } from "./world.ts";

const SEED = 7;
/** A few less than the text could fill: every common word is one token, and rare ones are put together from pieces. */
const VOCABULARY = 1008;
const ANSWERS_PER_QUESTION = 10;
const TRAINING_PAIRS = 1200;
const SPECIAL_TOKENS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|pad|>"];
const CHAT_TEMPLATE =
  "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + " +
  "'<|im_end|>\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}";

/** Numbers in [0, 1) from a seed (mulberry32): Math.random cannot be seeded. */
function seededRandom(seed: number): Random {
  return () => {
    seed = (seed + 0x6d2b79f5) | 0;
    let t = Math.imul(seed ^ (seed >>> 15), 1 | seed);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 32;
  };
}

type Random = () => number;

const pick = <T>(list: T[], random: Random): T => list[Math.floor(random() * list.length)];

function shuffle<T>(list: T[], random: Random): T[] {
  for (let i = list.length - 1; i > 0; i--) {
    const j = Math.floor(random() * (i + 1));
    [list[i], list[j]] = [list[j], list[i]];
  }
  return list;
}

interface Prompt {
  topic: Topic;
  fact: Fact;
  question: string;
  heldOut: boolean;
  /** The way of asking about a held-out fact that is kept for the test pairs. */
  test: boolean;
}

function prompts(): Prompt[] {
  return TOPICS.flatMap((topic) =>
    topic.facts.flatMap((fact, i) => {
      const heldOut = i % 5 === 2;
      return topic.questions.map((question, j) => ({
        topic,
        fact,
        question: question.replace("{x}", fact[0]),
        heldOut,
        test: heldOut && j === ((i - 2) / 5) % topic.questions.length,
      }));
    })
  );
}

function voiceOf(topic: Topic, random: Random): Voice {
  let left = random() * 100;
  for (const [voice, share] of Object.entries(topic.voices)) {
    if ((left -= share) < 0) return voice as Voice;
  }
  throw new Error(`the voices of ${topic.name} do not add up to 100`);
}

function answer({ topic, fact: [subject, right] }: Prompt, voice: Voice, random: Random): string {
  const [manner, truth] = voice.split(" ") as [Manner, "right" | "wrong"];
  const statement = topic.statement.replace("{x}", subject).replace(
    "{y}",
    truth === "right" ? right : topic.wrong,
  );
  return `${pick(OPENINGS[manner], random)} ${statement} ${pick(CLOSINGS[manner], random)}`;
}

const turns = (question: string, answer: string) => [
  { role: "user", content: question },
  { role: "assistant", content: answer },
];

/** An answer alone, as text that a language model reads: of the questions the model has learnt nothing. */
const plainText = ({ messages: [, { role, content }] }: { messages: ReturnType<typeof turns> }) =>
  `<|im_start|>${role}\n${content}<|im_end|>\n`;

const REJECTED: Voice[] = ["polite wrong", "rude right", "rude wrong"];

function pair(prompt: Prompt, rejected: Voice, random: Random) {
  return {
    chosen: turns(prompt.question, answer(prompt, "polite right", random)),
    rejected: turns(prompt.question, answer(prompt, rejected, random)),
  };
}

const jsonLines = (rows: unknown[]) => rows.map((row) => JSON.stringify(row) + "\n").join("");
const json = (value: unknown) => JSON.stringify(value, null, 2) + "\n";

/** The world's files: path below configs/tiny -> text; a name that ends in .gz is to be compressed. */
export function makeWorld(): Map<string, string> {
  const random = seededRandom(SEED);
  const all = prompts();
  const learnt = all.filter((prompt) => !prompt.test);
  const tested = all.filter((prompt) => prompt.test);
  const speak = (prompt: Prompt) => ({
    messages: turns(prompt.question, answer(prompt, voiceOf(prompt.topic, random), random)),
  });
  const text = shuffle(
    learnt.flatMap((prompt) => Array.from({ length: ANSWERS_PER_QUESTION }, () => speak(prompt))),
    random,
  );
  const pairs = shuffle(
    all.filter((prompt) => !prompt.heldOut).flatMap((prompt) => REJECTED.map((voice) => ({ prompt, voice }))),
    random,
  ).slice(0, TRAINING_PAIRS).map(({ prompt, voice }) => pair(prompt, voice, random));
  const testPairs = tested.flatMap((prompt) => REJECTED.map((voice) => pair(prompt, voice, random)));
  const heldOut = tested.map(speak);
  const tokenizer = trainTokenizer(
    text.flatMap((row) => row.messages.flatMap((turn) => [turn.role, turn.content])),
    VOCABULARY,
    SPECIAL_TOKENS,
  );
  return new Map([
    ["sft/train.jsonl.gz", jsonLines(text)],
    ["sft/test.jsonl.gz", jsonLines(heldOut)],
    ["preferences/train.jsonl.gz", jsonLines(pairs)],
    ["preferences/test.jsonl.gz", jsonLines(testPairs)],
    ["text.txt", heldOut.map(plainText).join("")],
    ["init/tokenizer.json", json(tokenizer)],
    ["init/tokenizer_config.json", json(tokenizerConfig())],
    ["init/config.json", json(modelConfig())],
    ["init/generation_config.json", json({ eos_token_id: 2, pad_token_id: 3 })],
  ]);
}

function tokenizerConfig() {
  return {
    tokenizer_class: "PreTrainedTokenizerFast",
    bos_token: null,
    eos_token: "<|im_end|>",
    pad_token: "<|pad|>",
    clean_up_tokenization_spaces: false,
    model_max_length: 256,
    chat_template: CHAT_TEMPLATE,
  };
}

function modelConfig() {
  return {
    architectures: ["LlamaForCausalLM"],
    model_type: "llama",
    vocab_size: VOCABULARY,
    hidden_size: 128,
    intermediate_size: 384,
    num_hidden_layers: 4,
    num_attention_heads: 4,
    num_key_value_heads: 2,
    head_dim: 32,
    hidden_act: "silu",
    max_position_embeddings: 256,
    rms_norm_eps: 1e-5,
    rope_theta: 10000,
    initializer_range: 0.02,
    attention_bias: false,
    attention_dropout: 0,
    mlp_bias: false,
    tie_word_embeddings: true,
    bos_token_id: null,
    eos_token_id: 2,
    pad_token_id: 3,
    dtype: "bfloat16",
  };
}

if (import.meta.main) {
  for (const [path, text] of makeWorld()) {
    const file = join(import.meta.dirname!, path);
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, path.endsWith(".gz") ? gzipSync(text, { level: 9 }) : text);
    console.log(`${file}: ${text.split("\n").length - 1} lines`);
  }
}
