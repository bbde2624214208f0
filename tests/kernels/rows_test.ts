import { pack } from "../../lib/batch/pack.ts";
import { clear, gatherRows, gatherRowsBackward } from "../../lib/gpu/operations.ts";
import { embed, embedBackward } from "../../lib/gpu/embedding_operations.ts";
import { fromF32, toF32 } from "../../lib/safetensors/dtype.ts";
import { kernelTest, useGpu } from "./harness.ts";
import { assertEqualBytes } from "../equal_bytes.ts";
import { randomPairs } from "../random_pairs.ts";
import { takeRows, takeRowsBackward } from "../reference/rows.ts";

useGpu();

const VOCABULARY = 51;

const SHAPES = [
  { tokens: 1, width: 1, spare: 0 },
  { tokens: 3, width: 3, spare: 3 },
  { tokens: 31, width: 5, spare: 0 },
  { tokens: 33, width: 16, spare: 31 },
  { tokens: 65, width: 20, spare: 1 },
  { tokens: 130, width: 36, spare: 0 },
  { tokens: 65, width: 66, spare: 2 },
  { tokens: 33, width: 100, spare: 0 },
];

// Copies are exact, and gradients sum the few rows where a token stands: at most 130, mostly of three.
const COPY = { tolerance: 0 };
const SUM = { tolerance: 1e-6 };

kernelTest(
  "embedding lookup copies the rows of the tokens",
  SHAPES,
  async (kernels, { tokens, width, spare }) => {
    const { ids } = pack(randomPairs(kernels.uniform, tokens));
    const table = kernels.values(VOCABULARY * width);
    const x = kernels.tensor([tokens + spare, width]);
    const idTensor = kernels.tensor([tokens + spare], ids);
    await kernels.run([embed(kernels.rows(tokens), idTensor, kernels.tensor([VOCABULARY, width], table), x)]);
    await kernels.compare(x, takeRows(table, ids, width), COPY);
  },
);

kernelTest(
  "embedding lookup reads a table that is stored in two bytes",
  SHAPES.filter(({ width }) => width % 4 === 0).flatMap((shape) =>
    (["bf16", "f16"] as const).map((storage) => ({ ...shape, storage }))
  ),
  async (kernels, { tokens, width, spare, storage }) => {
    const { ids } = pack(randomPairs(kernels.uniform, tokens));
    const dtype = storage === "bf16" ? "BF16" : "F16";
    const halves = fromF32(kernels.values(VOCABULARY * width), dtype);
    const words = new Uint32Array(halves.buffer);
    const table = { ...kernels.tensor([words.length], words), shape: [VOCABULARY, width], storage };
    const x = kernels.tensor([tokens + spare, width]);
    await kernels.run([embed(kernels.rows(tokens), kernels.tensor([tokens + spare], ids), table, x)]);
    await kernels.compare(x, takeRows(toF32(halves, dtype), ids, width), COPY);
  },
);

kernelTest(
  "embedding gradient adds the rows of each token to what is there",
  SHAPES,
  async (kernels, shape) => {
    const { tokens, width, spare } = shape;
    const batch = pack(randomPairs(kernels.uniform, tokens));
    const before = kernels.values(VOCABULARY * width);
    const dX = kernels.values(tokens * width);
    const dTable = kernels.tensorInPlace([VOCABULARY, width], before);
    const length = tokens + 1 + spare;
    // Behind its end a list has what a longer batch before this one has left there.
    const list = (data: Uint32Array, left: (i: number) => number) =>
      kernels.tensor([length], Uint32Array.from({ length }, (_, i) => data[i] ?? left(i)));
    await kernels.run([embedBackward(
      kernels.rows(batch.distinctIds.length),
      {
        ids: list(batch.distinctIds, () => 0),
        starts: list(batch.distinctStarts, (i) => i),
        rows: list(batch.distinctRows, () => 0),
      },
      kernels.tensor([tokens + spare, width], dX),
      dTable,
    )]);
    const gradient = takeRowsBackward(dX, batch.ids, VOCABULARY, width);
    await kernels.compare(dTable, gradient.map((value, i) => before[i] + value), SUM);
  },
);

/** The vocabulary in pieces of 20, 20 and 11 rows. */
const PIECES = [{ firstRow: 0, rows: 20 }, { firstRow: 20, rows: 20 }, { firstRow: 40, rows: 11 }];

kernelTest("a scaled embedding in pieces is looked up and trained as one", SHAPES, async (kernels, shape) => {
  const { tokens, width, spare } = shape;
  const batch = pack(randomPairs(kernels.uniform, tokens));
  const slot = kernels.rows(batch.distinctIds.length);
  const table = kernels.values(VOCABULARY * width);
  const dX = kernels.values(tokens * width);
  const dXTensor = kernels.tensor([tokens, width], dX);
  const ids = kernels.tensor([tokens], batch.ids);
  const x = kernels.tensor([tokens + spare, width]);
  const distinct = {
    ids: kernels.tensor([tokens + 1], batch.distinctIds),
    starts: kernels.tensor([tokens + 1], batch.distinctStarts),
    rows: kernels.tensor([tokens + 1], batch.distinctRows),
  };
  const padTokenId = batch.ids[0];
  const scale = Math.sqrt(3072);
  const pieces = PIECES.map(({ firstRow, rows }) => {
    const values = table.slice(firstRow * width, (firstRow + rows) * width);
    return {
      firstRow,
      values,
      weights: kernels.tensor([rows, width], values),
      gradients: kernels.tensorInPlace([rows, width], values),
    };
  });
  const tokenRows = kernels.rows(tokens);
  await kernels.run([
    ...pieces.map(({ firstRow, weights }) => embed(tokenRows, ids, weights, x, { firstRow, scale })),
    ...pieces.map(({ firstRow, gradients }) =>
      embedBackward(slot, distinct, dXTensor, gradients, { firstRow, padTokenId, scale })
    ),
  ]);
  const scaled = Float64Array.from(takeRows(table, batch.ids, width), (value) => value * scale);
  await kernels.compare(x, scaled, { tolerance: 2e-7 });
  const gradient = takeRowsBackward(dX, batch.ids, VOCABULARY, width)
    .map((value, i) => Math.floor(i / width) === padTokenId ? 0 : value * scale);
  for (const { firstRow, values, gradients } of pieces) {
    const expected = values.map((value, i) => value + gradient[firstRow * width + i]);
    await kernels.compare(gradients, expected, SUM);
  }
});

kernelTest("rows that predict a label are gathered", SHAPES, async (kernels, { tokens, width, spare }) => {
  const { labelRows } = pack(randomPairs(kernels.uniform, tokens));
  const x = kernels.values(tokens * width);
  const y = kernels.tensor([labelRows.length + spare, width]);
  await kernels.run([gatherRows(
    kernels.rows(labelRows.length),
    kernels.tensor([labelRows.length + spare], labelRows),
    kernels.tensor([tokens, width], x),
    y,
  )]);
  await kernels.compare(y, takeRows(x, labelRows, width), COPY);
});

kernelTest(
  "a gathered row's gradient sums its labels', and is 0 without any",
  SHAPES,
  async (kernels, shape) => {
    const { tokens, width, spare } = shape;
    const { labelRows, labelsOfRow } = pack(randomPairs(kernels.uniform, tokens));
    const dY = kernels.values(labelRows.length * width);
    const dX = kernels.tensor([tokens + spare, width]);
    await kernels.run([gatherRowsBackward(
      kernels.rows(tokens),
      kernels.tensor([tokens + spare, 2], labelsOfRow),
      kernels.tensor([labelRows.length + spare, width], dY),
      dX,
    )]);
    await kernels.compare(dX, takeRowsBackward(dY, labelRows, tokens, width), SUM);
  },
);

kernelTest(
  "a tensor is cleared to its last byte where sums begin anew, and left as it is where they go on",
  [1, 63, 300, 70_000].flatMap((count) => [false, true].map((accumulate) => ({ count, accumulate }))),
  async (kernels, { count, accumulate }) => {
    const tensor = kernels.tensor([count], kernels.values(count));
    await kernels.run([clear(kernels.rows(1, { accumulate }), tensor)]);
    if (accumulate) return await kernels.compareUnchanged(tensor);
    const whole = tensor.bytes / 4;
    assertEqualBytes(await kernels.read(tensor, whole), new Float32Array(whole));
  },
);

kernelTest(
  "more workgroups than one direction of a grid allows spill into the next",
  [{}],
  async (kernels) => {
    const rows = 64 * 65_535 + 100;
    const ids = Uint32Array.from({ length: rows }, () => kernels.integer(0, VOCABULARY - 1));
    const table = kernels.values(VOCABULARY);
    const x = kernels.tensor([rows + 50, 1]);
    const idTensor = kernels.tensor([rows], ids);
    await kernels.run([embed(kernels.rows(rows), idTensor, kernels.tensor([VOCABULARY, 1], table), x)]);
    await kernels.compare(x, takeRows(table, ids, 1), COPY);
  },
);
