/** That kernels stay in bounds, of a few; `deno task test:bounds` looks at all. */
import assert from "node:assert/strict";
import { testCommand } from "../run.ts";
import { accessLines } from "./kernel_text.ts";

/** Steps of a tiny model, whose tensors are as large as they must be, and tests of kernels that take little. */
const FEW: Record<string, string[]> = {
  "steps of a tiny model": ["tests/graph/residual_test.ts"],
  "products of rows of any length": [
    "--filter=no whole texels",
    "tests/kernels/gemm_test.ts",
  ],
  "products with a matrix that is held": ["--filter=hold a quantized", "tests/kernels/quantized_test.ts"],
};

for (const [name, words] of Object.entries(FEW)) {
  Deno.test(`${name} access nothing out of bounds`, async () => {
    const [, ...rest] = testCommand(["tests/bounds/files.ts", ...words]);
    const { success, stdout } = await new Deno.Command(Deno.execPath(), {
      args: ["run", ...rest],
      stdin: "null",
    }).output();
    const told = new TextDecoder().decode(stdout);
    assert.ok(success, told);
    assert.match(told, /^\d{2,} accesses, \d{2,} come by, 0 out of bounds$/m);
  });
}

Deno.test("lines of kernels that access something are found in WGSL and in what emits it", () => {
  const lines = accessLines("kernels");
  const has = (file: string, text: string) => lines.some((line) => line.file === file && line.text === text);
  assert.ok(has("add.wgsl", "z[i] = x[i] + y[i];"));
  assert.ok(has("gemm_workgroup.ts", "let x${} = a_tile[a_at + ${}u];"));
  // In a template within another's expression, and of a texture.
  assert.ok(has("gemm_epilogue.ts", "v += residual[${}];"));
  assert.ok(has("gemm_texture.ts", "let p${} = textureLoad(b, vec2u(k, n + ${}u));"));
  // Of the program, not of its kernels.
  assert.ok(!lines.some(({ text }) => text.includes("MATRICES[") || text.startsWith("import")));
  const { pattern } = lines.find(({ text }) => text === "let x${} = a_tile[a_at + ${}u];")!;
  assert.match("let x3 = a_tile[a_at + 17u];", pattern);
  assert.doesNotMatch("let x3 = b_tile[a_at + 17u];", pattern);
});
