// @ts-check
/**
 * What of an element is used.
 * @typedef {{
 *   innerHTML: string,
 *   textContent: string,
 *   hidden: boolean,
 *   disabled: boolean,
 *   dataset: { token: string },
 *   onclick: () => Promise<void>,
 * }} Part
 */

/**
 * What runs in the browser of the live report: it puts the HTML that the server made where it belongs.
 *
 * @param {{
 *   document: { getElementById: (id: string) => any },
 *   events: { onmessage: ((event: MessageEvent<string>) => void) | null, onerror: (() => void) | null },
 *   fetch: (url: string, init: RequestInit) => Promise<Pick<Response, "ok" | "text">>,
 *   confirm: (question: string) => boolean,
 * }} browser
 */
export function live({ document, events, fetch, confirm }) {
  const part = (/** @type {string} */ id) => /** @type {Part} */ (document.getElementById(id));
  const [stop, note] = [part("stop"), part("note")];
  let isLost = false;

  events.onmessage = ({ data }) => {
    const { sections, isRunning } = JSON.parse(data);
    for (const [id, html] of Object.entries(sections)) part(id).innerHTML = html;
    stop.hidden = !isRunning;
    if (isLost || !isRunning) note.textContent = "";
    isLost = false;
  };
  events.onerror = () => {
    isLost = true;
    stop.hidden = true;
    note.textContent = "Nothing more comes: the program that served this page has ended.";
  };
  stop.onclick = async () => {
    if (!confirm("Stop the run? It ends after the step in hand, with a checkpoint to go on from.")) return;
    const answer = await fetch("stop", { method: "POST", headers: { "x-token": stop.dataset.token } });
    stop.disabled = answer.ok;
    note.textContent = await answer.text();
  };
}
