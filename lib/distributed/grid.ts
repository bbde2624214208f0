import { alone, type Communicator } from "./communicator.ts";

/** Which of how many, from 0. */
export type Place = Pick<Communicator, "rank" | "size">;

/** What a rank shares with others: pairs with those of its stage, and the model with those of its pipeline. */
export interface Grid<Of = Communicator> {
  /** Those that have the same stage of the model. */
  data: Of;
  /** Those that have the other stages, and the same pairs. */
  pipeline: Of;
}

/** The one rank of a run that is alone. */
export const ALONE: Grid = { data: alone, pipeline: alone };

/**
 * Where a rank stands among pipelines of so many stages. Neighbours have the same stage: they exchange gradients, and
 * a pipeline's stages, which may be further apart, a boundary's values alone.
 */
export function placeOf({ rank, size }: Place, stages: number): Grid<Place> {
  const pipelines = size / stages;
  return {
    data: { rank: rank % pipelines, size: pipelines },
    pipeline: { rank: Math.floor(rank / pipelines), size: stages },
  };
}

/** The lines of a rank's two groups. */
export async function gridOf(communicator: Communicator, stages: number): Promise<Grid> {
  if (stages === 1) return { data: communicator, pipeline: alone };
  if (stages === communicator.size) return { data: alone, pipeline: communicator };
  const { data, pipeline } = placeOf(communicator, stages);
  return {
    data: await communicator.split(pipeline.rank),
    pipeline: await communicator.split(data.rank),
  };
}
