import { show } from "../text/json.ts";

/** What more is said of an error than its message. */
export interface ApiErrorFacts {
  /** The field of the request. */
  param?: string;
  /** A word that stays, where the status alone does not say it. */
  code?: string;
  headers?: Record<string, string>;
}

/** Types of errors by their status, as OpenAI's server has them. */
const TYPES: Record<number, string> = {
  401: "authentication_error",
  403: "permission_error",
  429: "rate_limit_error",
};

/** An error that who asked is told, as the clients of OpenAI parse it. */
export class ApiError extends Error {
  constructor(readonly status: number, message: string, readonly facts: ApiErrorFacts = {}) {
    super(message);
  }

  /** Of a field that holds something else. */
  static expected(param: string, expected: string, found: unknown): ApiError {
    return new ApiError(400, `${param}: expected ${expected}, found ${show(found)}`, { param });
  }

  /** What a stream says of it, or the body of a response. */
  get body(): { error: { message: string; type: string; param: string | null; code: string | null } } {
    const { param = null, code = null } = this.facts;
    const type = TYPES[this.status] ?? (this.status < 500 ? "invalid_request_error" : "server_error");
    return { error: { message: this.message, type, param, code } };
  }

  get response(): Response {
    return Response.json(this.body, { status: this.status, headers: this.facts.headers });
  }
}
