import type { MatrixPrecision } from "../../kernels/gemm.ts";
import type { TrainConfig } from "../config/schema.ts";
import { UserError } from "../errors.ts";
import type { Gpu } from "../gpu/device.ts";

/**
 * The precision of float16 matrices that `float32_matmul_precision` means on `gpu`; none where products are float32.
 * @throws {UserError} (status 2) where the adapter has no such matrices, with those that it has.
 */
export function precisionOn(
  { name, matrices, matrixKinds, toggles }: Pick<Gpu, "name" | "matrices" | "matrixKinds" | "toggles">,
  { float32MatmulPrecision: asked }: Pick<TrainConfig, "float32MatmulPrecision">,
): MatrixPrecision | undefined {
  if (asked === "highest") return;
  if (asked === "auto") return matrices && "high";
  if (matrices) return asked;
  const found = matrixKinds.length > 0
    ? `${name} has ${matrixKinds.join(", ")}` +
      (matrixKinds.some((kind) => kind.startsWith("f16 x f16 -> f32 "))
        ? ", of sizes that no kernel is cut for, or in subgroups whose size cannot be asked for"
        : "")
    : `${name} offers none`;
  // Of Dawn alone something is changed.
  const elsewhere = toggles.length > 0
    ? ""
    : "webgpu_engine: dawn offers those that a GPU has, which the other engine does not; ";
  throw new UserError(
    `float32_matmul_precision: ${asked} needs subgroup matrices of float16 with float32 sums, and ${found}: ` +
      elsewhere +
      "highest computes in float32, and auto does so where there are none",
    2,
  );
}
