/** Has Mesa's software driver list matrices of float32: see `float32_layer.c`. */
import { join } from "node:path";

const NAME = "VK_LAYER_SIMPER_float32_matrices";

/** The environment in which it does, by a layer that is compiled into `folder`; or why it cannot be. */
export async function float32Layer(folder: string): Promise<Record<string, string> | string> {
  const library = join(folder, "libfloat32_layer.so");
  const compiled = await new Deno.Command("cc", {
    args: ["-shared", "-fPIC", "-o", library, "tests/dawn/float32_layer.c"],
  }).output().catch(() => undefined);
  if (!compiled) return "there is no C compiler";
  if (!compiled.success) return new TextDecoder().decode(compiled.stderr).trim();
  const layer = {
    name: NAME,
    type: "GLOBAL",
    library_path: library,
    api_version: "1.3.0",
    implementation_version: "1",
    description: "Lists matrices of float32",
  };
  await Deno.writeTextFile(
    join(folder, "float32_layer.json"),
    JSON.stringify({ file_format_version: "1.2.0", layer }),
  );
  return { VK_LAYER_PATH: folder, VK_INSTANCE_LAYERS: NAME };
}
