/** How the first rank saves tensors that others have. */
import type { TensorSource } from "../safetensors/write.ts";
import { gather } from "./collectives.ts";
import type { Communicator } from "./communicator.ts";

/**
 * Runs `write` on the first rank, and has the others send it what it reads there of theirs, a tensor at a time.
 *
 * @param all what is to be saved.
 * @param own those of them that this rank has; one that several have is the first of these ranks'.
 * @param write reads each tensor once, to its end, one after the other.
 */
export async function withSources(
  communicator: Communicator,
  all: readonly TensorSource[],
  own: readonly TensorSource[],
  write: (tensors: TensorSource[]) => Promise<void>,
): Promise<void> {
  const owners = new Map(
    (await gather(communicator, own.map(({ name }) => name)))
      .flatMap((names, rank) => names.map((name) => [name, rank] as const)).toReversed(),
  );
  const here = new Map(own.map((tensor) => [tensor.name, tensor]));
  if (communicator.rank > 0) return await serve(communicator, here);
  await write(all.map((tensor) =>
    here.get(tensor.name) ??
      { ...tensor, chunks: () => ask(communicator, tensor.name, owners.get(tensor.name)!) }
  ));
  const others = Array.from({ length: communicator.size - 1 }, (_, i) => i + 1);
  await Promise.all(others.map((rank) => communicator.send(NOTHING, rank)));
}

/** The end of a tensor, or of all that is asked for. */
const NOTHING = new Uint8Array();

async function* ask(communicator: Communicator, name: string, owner: number): AsyncGenerator<Uint8Array> {
  await communicator.send(new TextEncoder().encode(name), owner);
  for (;;) {
    const piece = await communicator.receive(owner);
    if (piece.length === 0) return;
    yield piece;
  }
}

/** Sends the first rank what it asks for, until it has all. */
async function serve(communicator: Communicator, tensors: ReadonlyMap<string, TensorSource>): Promise<void> {
  for (;;) {
    const asked = await communicator.receive(0);
    if (asked.length === 0) return;
    for await (const piece of tensors.get(new TextDecoder().decode(asked))!.chunks()) {
      await communicator.send(new Uint8Array(piece), 0);
    }
    await communicator.send(NOTHING, 0);
  }
}
