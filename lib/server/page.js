// @ts-check
/**
 * What runs in the browser of the page that shows two answers side by side. Text of models is put there as text, never as HTML.
 *
 * @typedef {{ token: string, logprob: number }} Likely
 * @typedef {Likely & { top_logprobs: Likely[] }} Token
 * @typedef {{ choices: { delta: { content?: string }, logprobs: { content: Token[] } | null }[] }} Chunk
 * @typedef {{ role: string, content: string }} Message
 * @typedef {{ model: string, text: string, tokens: Token[], isWhole: boolean }} Answer
 */

/** Log-probabilities from here on down are all the least likely. */
const LEAST = -5;

/**
 * The events of a response of server-sent events, but the one that ends it.
 *
 * @param {ReadableStream<Uint8Array>} body
 * @returns {AsyncGenerator<any>}
 */
export async function* eventsOf(body) {
  const decoder = new TextDecoder();
  const reader = body.getReader();
  let text = "";
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    text += decoder.decode(value, { stream: true });
    for (let end = text.indexOf("\n\n"); end >= 0; end = text.indexOf("\n\n")) {
      const data = text.slice("data: ".length, end);
      text = text.slice(end + 2);
      if (data === "[DONE]") return;
      const event = JSON.parse(data);
      if (event.error) throw new Error(event.error.message);
      yield event;
    }
  }
}

/** How unlikely a token was, from 0 to 1. @param {number} logprob */
export const surprise = (logprob) => Math.min(1, Math.max(0, logprob / LEAST));

/** What is said of a token. @param {Token} token */
export function describe({ token, logprob, top_logprobs }) {
  const one = (/** @type {Likely} */ { token, logprob }) =>
    `${JSON.stringify(token)} ${(100 * Math.exp(logprob)).toFixed(1)} %`;
  const others = top_logprobs.length > 0 ? `; likeliest: ${top_logprobs.map(one).join(", ")}` : "";
  return `${one({ token, logprob })} (${logprob.toFixed(3)})${others}`;
}

/** What is said of an answer. @param {Answer} answer @param {number} seconds */
export function figures({ tokens }, seconds) {
  if (tokens.length === 0) return "";
  const mean = tokens.reduce((sum, { logprob }) => sum + logprob, 0) / tokens.length;
  return [
    `${tokens.length} token${tokens.length === 1 ? "" : "s"}`,
    `${(tokens.length / Math.max(seconds, 1e-3)).toFixed(1)} tokens/s`,
    `mean log-probability ${mean.toFixed(3)}`,
  ].join(" · ");
}

/**
 * What the page does.
 *
 * @param {{ getElementById: (id: string) => any, createElement: (name: string) => any }} document
 * @param {typeof fetch} fetch
 */
export function start(document, fetch) {
  /** @type {(id: string) => any} */
  const part = (id) => document.getElementById(id);
  const [ask, send, stop, note, vote, download] = ["ask", "send", "stop", "note", "vote", "download"].map(
    part,
  );
  const sides = [0, 1].map((i) => ({
    model: part(`model-${i}`),
    answer: part(`answer-${i}`),
    figures: part(`figures-${i}`),
    better: part(`better-${i}`),
  }));
  /** What was answered last. @type {{ messages: Message[], answers: Answer[] }} */
  let shown = { messages: [], answers: [] };
  /** Rows that were kept. @type {string[]} */
  const rows = [];
  let leaves = new AbortController();

  /** @param {string} path @param {unknown} [body] */
  const call = async (path, body) => {
    const key = part("key").value;
    /** @type {Record<string, string>} */
    const headers = { "content-type": "application/json", ...key && { authorization: `Bearer ${key}` } };
    const method = body === undefined ? "GET" : "POST";
    const response = await fetch(path, {
      method,
      headers,
      body: JSON.stringify(body),
      signal: leaves.signal,
    });
    if (response.ok) return response;
    const told = await response.json().catch(() => undefined);
    throw Object.assign(new Error(told?.error?.message ?? `status ${response.status}`), {
      status: response.status,
    });
  };

  const listModels = async () => {
    try {
      const { data } = await (await call("v1/models")).json();
      for (const [i, { model }] of sides.entries()) {
        const names = data.map((/** @type {{ id: string }} */ { id }) => id);
        model.replaceChildren(...names.map((/** @type {string} */ name) => {
          const option = document.createElement("option");
          option.value = option.textContent = name;
          return option;
        }));
        model.selectedIndex = Math.min(i, names.length - 1);
      }
      note.textContent = "";
    } catch (error) {
      note.textContent = `The models are not told: ${
        /** @type {Error} */ (error).message
      }. The key goes into the settings.`;
    }
  };

  /** @param {number} i @param {string} model @param {Message[]} messages @param {number} [seed] */
  const answer = async (i, model, messages, seed) => {
    const side = sides[i];
    const begin = performance.now();
    /** @type {Answer} */
    const made = { model, text: "", tokens: [], isWhole: false };
    shown.answers[i] = made;
    const numberOf = (/** @type {string} */ id) => part(id).value === "" ? undefined : Number(part(id).value);
    try {
      const response = await call("v1/chat/completions", {
        model,
        messages,
        seed,
        stream: true,
        logprobs: true,
        top_logprobs: 5,
        ...Object.fromEntries(["temperature", "top_p", "max_tokens"].map((id) => [id, numberOf(id)])),
      });
      for await (const { choices } of eventsOf(/** @type {ReadableStream<Uint8Array>} */ (response.body))) {
        for (const { delta, logprobs } of /** @type {Chunk} */ ({ choices }).choices) {
          const text = delta.content ?? "";
          made.text += text;
          const tokens = logprobs?.content ?? [];
          made.tokens.push(...tokens);
          show(side, text, tokens.at(-1));
        }
        side.figures.textContent = figures(made, (performance.now() - begin) / 1000);
      }
      made.isWhole = true;
    } catch (error) {
      if (leaves.signal.aborted) side.figures.textContent += " · stopped";
      else {
        side.answer.classList.add("error");
        side.answer.append(/** @type {Error} */ (error).message);
      }
    }
  };

  /** @param {typeof sides[number]} side @param {string} text @param {Token} [token] */
  const show = (side, text, token) => {
    if (text === "") return;
    // What was held back for a character or a stop comes with the token that ends it.
    if (!token) return side.answer.append(text);
    const span = document.createElement("span");
    span.textContent = text;
    span.style.setProperty("--surprise", String(surprise(token.logprob)));
    span.onmouseenter = span.onclick = () => part("token").textContent = describe(token);
    side.answer.append(span);
  };

  ask.onsubmit = async (/** @type {Event} */ event) => {
    event.preventDefault();
    leaves = new AbortController();
    const system = part("system").value;
    const messages = [
      ...system ? [{ role: "system", content: system }] : [],
      { role: "user", content: part("prompt").value },
    ];
    let models = sides.map(({ model }) => model.value);
    const isBlind = part("blind").checked;
    if (isBlind && Math.random() < 0.5) models = models.toReversed();
    shown = { messages, answers: [] };
    for (const side of sides) {
      side.answer.replaceChildren();
      side.answer.classList.remove("error");
      side.figures.textContent = "";
      side.model.hidden = isBlind;
    }
    [note.textContent, part("token").textContent] = ["", ""];
    [send.disabled, stop.hidden, vote.hidden] = [true, false, true];
    const seed = part("seed").value === "" ? undefined : Number(part("seed").value);
    // One model twice would say the same twice.
    const other = models[0] === models[1] ? 1 : 0;
    await Promise.all(
      models.map((model, i) => answer(i, model, messages, seed === undefined ? undefined : seed + i * other)),
    );
    [send.disabled, stop.hidden] = [false, true];
    const isVotable = shown.answers.every(({ isWhole }) => isWhole);
    vote.hidden = !isVotable;
    if (!isVotable) reveal();
  };
  stop.onclick = () => leaves.abort();

  /** Says which model is where. */
  const reveal = () => {
    sides.forEach(({ model }, i) => {
      model.hidden = false;
      model.value = shown.answers[i].model;
    });
  };

  /** @param {number} better */
  const keep = async (better) => {
    const { messages, answers } = shown;
    const [chosen, rejected] = [answers[better], answers[1 - better]];
    reveal();
    if (chosen.text === rejected.text) {
      return note.textContent = "Both say the same: there is nothing to choose.";
    }
    vote.hidden = true;
    const pair = {
      messages,
      chosen: chosen.text,
      rejected: rejected.text,
      chosen_model: chosen.model,
      rejected_model: rejected.model,
    };
    try {
      leaves = new AbortController();
      const { row, kept } = await (await call("preferences", pair)).json();
      rows.push(row);
      note.textContent = kept
        ? "Kept by the server."
        : "Kept by this page until it is left: download it below.";
      const blob = new Blob(rows.map((row) => `${row}\n`), { type: "application/jsonl" });
      URL.revokeObjectURL(download.href);
      download.href = URL.createObjectURL(blob);
      download.textContent = `Download ${rows.length} pair${
        rows.length === 1 ? "" : "s"
      } (JSONL, as train reads it)`;
      download.hidden = false;
    } catch (error) {
      vote.hidden = false;
      note.textContent = `Not kept: ${/** @type {Error} */ (error).message}`;
    }
  };
  sides.forEach(({ better }, i) => better.onclick = () => keep(i));
  part("neither").onclick = () => {
    reveal();
    vote.hidden = true;
  };
  part("key").onchange = listModels;
  return listModels();
}

// Tests have no document.
const { document } = /** @type {any} */ (globalThis);
if (document) void start(document, (url, init) => fetch(url, init));
