/**
 * Runs in a worker of an `Adder`: adds up in memory that it shares with it.
 *
 * @module
 */
import { addUp } from "./add_up.ts";

/** What a thread is asked for. */
export type AdderRequest = Parameters<typeof addUp>;

// Of a worker, which the types of the main thread do not know.
const scope = self as unknown as {
  onmessage: (event: MessageEvent<AdderRequest>) => void;
  postMessage: (message: "done") => void;
};

scope.onmessage = ({ data }) => {
  addUp(...data);
  scope.postMessage("done");
};
