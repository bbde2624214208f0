import { join } from "node:path";
import { openCheckpoint } from "../lib/safetensors/read.ts";
import { saveCheckpoint } from "../lib/safetensors/write.ts";
import { GOLDEN } from "./golden_run.ts";

/** A copy of the golden model in `folder`, with other tensors. */
export async function modelWith(
  folder: string,
  change: (tensor: { name: string; shape: number[]; values: Float32Array }) => void,
): Promise<string> {
  const model = join(folder, "model");
  await Deno.mkdir(model);
  for (const name of ["config.json", "tokenizer.json", "tokenizer_config.json", "chat_template.jinja"]) {
    await Deno.copyFile(`${GOLDEN}/untied/${name}`, join(model, name));
  }
  const source = await openCheckpoint(`${GOLDEN}/untied`);
  const tensors = await Promise.all([...source.tensors.values()].map(async ({ name, shape }) => {
    const tensor = { name, shape: [...shape], values: await source.readF32(name) };
    change(tensor);
    return tensor;
  }));
  await source.close();
  await saveCheckpoint(
    model,
    tensors.map(({ name, shape, values }) => ({
      name,
      shape,
      dtype: "F32" as const,
      chunks: () => [new Uint8Array(values.buffer, values.byteOffset, values.byteLength)],
    })),
  );
  return model;
}
