/** How several ranks divide a run's work, as far as numbers follow from it: sums of other parts round differently. */
import type { TrainConfig } from "../config/schema.ts";
import type { Grid } from "../distributed/grid.ts";

export interface Division {
  /** Those that have the same parameters: ranks, or pipelines. */
  ranks: number;
  /** Of each pipeline; 1 where their number changes nothing. */
  stages: number;
  /** 2 where each rank adds up its passes on the host; what else there is changes nothing, and is 0. */
  zeroStage: number;
}

/** A process by itself. */
export const UNDIVIDED: Division = { ranks: 1, stages: 1, zeroStage: 0 };

/**
 * Nothing where the numbers are those of a process by itself.
 * @param stagesMatter whether they follow from how many stages a pipeline has.
 */
export function divisionOf(
  { data, pipeline }: Grid,
  { zeroStage }: Pick<TrainConfig, "zeroStage">,
  stagesMatter: boolean,
): Division | undefined {
  const ranks = data.size;
  const stages = stagesMatter ? pipeline.size : 1;
  if (ranks === 1 && stages === 1) return undefined;
  return { ranks, stages, zeroStage: ranks > 1 && zeroStage === 2 ? 2 : 0 };
}

/** Whether what differs is how many stages a pipeline has, and nothing else. */
export const differsInStagesAlone = (one: Division = UNDIVIDED, other: Division = UNDIVIDED): boolean =>
  one.ranks === other.ranks && one.zeroStage === other.zeroStage && one.stages !== other.stages;

/** For people. */
export function describeDivision({ ranks, stages, zeroStage }: Division = UNDIVIDED): string {
  const name = stages === 1 ? "rank" : "pipeline";
  return `${ranks} ${name}${ranks === 1 ? "" : "s"}${stages === 1 ? "" : ` of ${stages} stages`}${
    zeroStage === 0 ? "" : `, zero_stage: ${zeroStage}`
  }`;
}
