/** The server as a function of requests: it opens no port, and no file. */
// Hono: typed routes over the web's own Request and Response, so that no line here is of one runtime.
import { type Context, Hono } from "npm:hono@^4.13.19";
import { cors } from "npm:hono@^4.13.19/cors";
import { ApiError } from "./api_error.ts";
import { readBody } from "./body.ts";
import { chatCompletions } from "./chat_completions.ts";
import { completions } from "./completions.ts";
import { ServerContext, type ServerLimits } from "./context.ts";
import { RequestFields } from "./fields.ts";
import { checkAccess, type GuardOptions } from "./guard.ts";
import { PAGE_PATHS, pageFile, preferenceRow } from "./page.ts";
import type { ServedModel } from "./served_model.ts";
import { detokenize, tokenize, tokenizerInfo } from "./tokenization.ts";

/** What is served, to whom, and how much of it. */
export interface ServerOptions extends GuardOptions {
  /** One at least; the first is asked where a request names none. */
  models: readonly ServedModel[];
  limits?: Partial<ServerLimits>;
  /** Keeps a vote of the page, a line of JSON; without it the page alone has them. */
  keep?: (row: string) => Promise<void>;
  /** Hears of each request that was answered, and of defects. */
  log?: (level: "debug" | "error", message: string) => void;
}

/** Bounds that suit evaluations, which post long lists. */
export const LIMITS: ServerLimits = { requests: 128, seconds: 600, bodyBytes: 2 ** 24, bodySeconds: 30 };

/**
 * OpenAI's endpoints, those that vLLM has beside them, and `/metrics`.
 *
 * @returns answers a request; it never throws.
 */
export function serverApp(options: ServerOptions): (request: Request) => Promise<Response> {
  const { models, keep, log = () => {}, allowedOrigins = [] } = options;
  const context = new ServerContext(
    models,
    { ...LIMITS, ...options.limits },
    (message) => log("error", message),
  );
  const { limits, metrics } = context;
  const app = new Hono();
  app.onError((error) => context.apiErrorOf(error).response);
  app.notFound((c) => new ApiError(404, `${c.req.path}: there is no such endpoint`).response);
  if (allowedOrigins.length > 0) app.use(cors({ origin: [...allowedOrigins] }));

  const get = (path: string, answer: (c: Context) => Response | Promise<Response>) => {
    app.get(path, answer);
    app.all(path, () => wrongMethod("GET"));
  };
  const post = (
    path: string,
    answer: (context: ServerContext, fields: RequestFields, request: Request) => Promise<Response>,
  ) => {
    app.post(path, async ({ req }) => {
      const bounds = { bytes: limits.bodyBytes, milliseconds: 1000 * limits.bodySeconds };
      return await answer(context, new RequestFields(await readBody(req.raw, bounds)), req.raw);
    });
    app.all(path, () => wrongMethod("POST"));
  };
  const about = ({ name, generator }: ServedModel) => ({
    id: name,
    object: "model",
    created: context.created,
    owned_by: "simper",
    max_model_len: generator.positions,
  });
  post("/v1/completions", completions);
  post("/v1/chat/completions", chatCompletions);
  get("/v1/models", () => Response.json({ object: "list", data: models.map(about) }));
  get("/v1/models/:name{.+}", (c) => Response.json(about(context.modelNamed(c.req.param("name")!))));
  post("/tokenize", tokenize);
  post("/detokenize", detokenize);
  get("/tokenizer_info", (c) => {
    const name = c.req.query("model");
    return tokenizerInfo(name === undefined ? models[0] : context.modelNamed(name));
  });
  for (const path of PAGE_PATHS) get(path, () => pageFile(path));
  post("/preferences", async (_, fields) => {
    const row = preferenceRow(fields);
    await keep?.(row);
    return Response.json({ row, kept: keep !== undefined });
  });
  get("/health", () => Response.json({ status: "ok" }));
  get("/metrics", async () => {
    const { registry } = metrics;
    return new Response(await registry.metrics(), { headers: { "content-type": registry.contentType } });
  });
  const paths = new Set(app.routes.map(({ path }) => path));

  return async (request) => {
    const begin = performance.now();
    // The host is what the request says.
    if (!URL.canParse(request.url)) return new ApiError(400, "the request's address is none").response;
    const { pathname } = new URL(request.url);
    let response: Response;
    try {
      checkAccess(request, options);
      response = await app.fetch(request);
    } catch (error) {
      response = context.apiErrorOf(error).response;
    }
    response.headers.set("x-content-type-options", "nosniff");
    // What else is asked for has no end of names.
    metrics.request(paths.has(pathname) ? pathname : "other", response.status);
    const seconds = (performance.now() - begin) / 1000;
    log("debug", `${request.method} ${pathname} ${response.status} ${seconds.toFixed(3)} s`);
    return response;
  };
}

function wrongMethod(allow: string): Response {
  return new ApiError(405, `expected ${allow}`, { headers: { allow } }).response;
}
