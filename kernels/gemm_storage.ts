/** A matrix product whose threads read A and B straight from storage, each into a large register tile. */
import { extents, type GemmVariant, type StorageTile } from "./gemm.ts";
import { isPaired, stores } from "./gemm_epilogue.ts";
import { lane, range } from "./emit.ts";

/** The entry point; `gemm.ts` declares what it reads and writes. */
export function storageMain(variant: GemmVariant, tile: StorageTile): string {
  const { layout, epilogue } = variant;
  const { threadRows: tm, threadColumns: tn } = tile;
  const body = layout === "nt"
    ? bodyNT(variant, tm, tn)
    : layout === "nn"
    ? bodyNN(variant, tm, tn)
    : bodyTN(tm, tn);
  return `
@compute @workgroup_size(${tile.groupColumns}, ${tile.groupRows})
fn main(@builtin(global_invocation_id) id: vec3u) {
  let M = ${extents(layout).M};
  let N = size.n;
  let K = ${extents(layout).K};
  let LDA = size.lda;
  let LDB = size.ldb;
  let m = id.y * ${tm}u;
  let n = id.x * ${tn}u;
  if (m >= M || n >= N) { return; }
${isPaired(epilogue) ? "  let p = n / 2u;" : ""}
${range(tm).flatMap((i) => range(tn / 4).map((j) => `  var c${i}_${j} = vec4f();`)).join("\n")}
${body}
${
    stores(epilogue, tm, tn / 4, (i, j) => ({
      m: `m + ${i}u`,
      n: `${isPaired(epilogue) ? "p" : "n"} + ${4 * j}u`,
    }))
  }
}
`;
}

/** Rows beyond the edge read the last row instead: never out of bounds, and never stored. */
const rowStarts = (name: string, count: number, first: string, last: string, stride: string) =>
  range(count).map((i) => `  let ${name}${i} = min(${first} + ${i}u, ${last}) * ${stride};`).join("\n");

/** Rows of B that give a thread's pairs of columns. */
const pairStarts = (count: number) =>
  range(count).map((j) =>
    j < count / 2
      ? `  let rb${j} = first_of_pair(p + ${j}u) * LDB;`
      : `  let rb${j} = rb${j - count / 2} + size.half * LDB;`
  ).join("\n");

function bodyNT(variant: GemmVariant, tm: number, tn: number): string {
  const step = (load: "4" | "1") => {
    const type = load === "4" ? "vec4f" : "f32";
    const product = (i: number, j: number) => load === "4" ? `dot(x${i}, y${j})` : `x${i} * y${j}`;
    return `
${range(tn).map((j) => `    let y${j}: ${type} = b${load}(rb${j} + k);`).join("\n")}
${
      range(tm).map((i) =>
        `    let x${i}: ${type} = a${load}(ra${i} + k);\n` +
        range(tn / 4).map((j) =>
          `    c${i}_${j} += vec4f(${range(4).map((l) => product(i, 4 * j + l)).join(", ")});`
        ).join("\n")
      ).join("\n")
    }`;
  };
  return `
${rowStarts("ra", tm, "m", "M - 1u", "LDA")}
${isPaired(variant.epilogue) ? pairStarts(tn) : rowStarts("rb", tn, "n", "N - 1u", "LDB")}
  for (var k = 0u; k < (K & 0xfffffffcu); k += 4u) {${step("4")}
  }
${variant.tail ? `  for (var k = K & 0xfffffffcu; k < K; k += 1u) {${step("1")}\n  }` : ""}`;
}

function bodyNN(variant: GemmVariant, tm: number, tn: number): string {
  const loadB = (l: number) =>
    range(tn / 4).map((j) => `    let y${l}_${j} = b4((k + ${l}u) * LDB + cb${j});`).join("\n");
  return `
${rowStarts("ra", tm, "m", "M - 1u", "LDA")}
${columnStarts("cb", tn, "n", "N")}
  for (var k = 0u; k < (K & 0xfffffffcu); k += 4u) {
${range(4).map(loadB).join("\n")}
${
    range(tm).map((i) =>
      `    let x${i} = a4(ra${i} + k);\n` +
      range(tn / 4).map((j) =>
        `    c${i}_${j} += ${range(4).map((l) => `x${i}.${lane(l)} * y${l}_${j}`).join(" + ")};`
      ).join("\n")
    ).join("\n")
  }
  }
${
    variant.tail
      ? `  for (var k = K & 0xfffffffcu; k < K; k += 1u) {
${loadB(0)}
${
        range(tm).map((i) =>
          `    let x${i} = a1(ra${i} + k);\n` +
          range(tn / 4).map((j) => `    c${i}_${j} += x${i} * y0_${j};`).join("\n")
        ).join("\n")
      }
  }`
      : ""
  }`;
}

function bodyTN(tm: number, tn: number): string {
  return `
${columnStarts("ca", tm, "m", "M")}
${columnStarts("cb", tn, "n", "N")}
  for (var k = 0u; k < K; k += 1u) {
${range(tn / 4).map((j) => `    let y${j} = b4(k * LDB + cb${j});`).join("\n")}
${
    range(tm / 4).map((i) =>
      `    let x${i} = a4(k * LDA + ca${i});\n` +
      range(4).flatMap((l) => range(tn / 4).map((j) => `    c${4 * i + l}_${j} += x${i}.${lane(l)} * y${j};`))
        .join("\n")
    ).join("\n")
  }
  }`;
}

/** Columns beyond the edge read the last group of four: what they give is never stored. */
const columnStarts = (name: string, count: number, first: string, limit: string) =>
  range(count / 4).map((j) => `  let ${name}${j} = min(${first} + ${4 * j}u, (${limit} - 1u) & 0xfffffffcu);`)
    .join("\n");
