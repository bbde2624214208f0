import { ApiError } from "./api_error.ts";

/**
 * A response of server-sent events. What `produce` makes is kept until it is read, so that who reads slowly keeps no
 * answer from its end; a text of so many tokens has its bound.
 *
 * @param produce tells each event by `send`; what it throws is told as an error, which OpenAI's clients throw.
 * @param leave is called where who asked goes away.
 */
export function eventResponse(
  produce: (send: (event: unknown) => void) => Promise<void>,
  leave: () => void,
  asApiError: (error: unknown) => ApiError,
): Response {
  const encoder = new TextEncoder();
  let isLeft = false;
  const stream = new ReadableStream<Uint8Array>({
    start(controller) {
      const write = (data: string) => {
        if (!isLeft) controller.enqueue(encoder.encode(`data: ${data}\n\n`));
      };
      void produce((event) => write(JSON.stringify(event)))
        .catch((error) => write(JSON.stringify(asApiError(error).body)))
        .then(() => {
          write("[DONE]");
          if (!isLeft) controller.close();
        });
    },
    cancel() {
      isLeft = true;
      leave();
    },
  });
  return new Response(stream, {
    headers: { "content-type": "text/event-stream; charset=utf-8", "cache-control": "no-store" },
  });
}
