/** What a user reads who got something wrong: one message, the right status, and no output folder. */
import assert from "node:assert/strict";
import { join } from "node:path";
import { type Finished, taskWith } from "../command.ts";
import { GOLDEN } from "../golden_run.ts";
import { modelWith } from "../model_with.ts";
import { withTemporaryFolder } from "../temporary_folder.ts";

interface Case {
  overrides?: string[];
  env?: Record<string, string>;
  status?: number;
  /** Whether it comes to its first step. */
  began?: boolean;
  /** Each must be in the message. */
  says: RegExp[];
}

/** Runs the golden config with something wrong about it and looks at how it ends. */
async function refuses(
  folder: string,
  { overrides = [], env = {}, status = 1, began = false, says }: Case,
): Promise<Finished> {
  const out = join(folder, "out");
  const done = await taskWith(
    env,
    "train",
    `${GOLDEN}/run.yaml`,
    `--output_dir=${out}`,
    "--log_level=error",
    ...overrides,
  );
  assert.equal(done.status, status, done.stderr);
  assert.match(done.stderr, /^error: /);
  for (const part of says) assert.match(done.stderr, part);
  assert.doesNotMatch(done.stderr, /\n\s+at .*:\d+:\d+/, "a stack trace");
  assert.equal(done.stdout, "");
  // A run that came to its steps has its log there.
  const names = await Array.fromAsync(Deno.readDir(out), ({ name }) => name).catch(() => ["no folder"]);
  assert.deepEqual(
    names.sort(),
    began ? ["metrics.jsonl", "report.json", "trainer_state.json"] : ["no folder"],
  );
  return done;
}

const test = (name: string, body: (folder: string) => Promise<unknown>) =>
  Deno.test(name, () => withTemporaryFolder(async (folder) => void await body(folder)));

async function dataWith(folder: string, ...rows: unknown[]): Promise<string[]> {
  const path = join(folder, "data.jsonl");
  await Deno.writeTextFile(
    path,
    rows.map((row) => typeof row === "string" ? row : JSON.stringify(row)).join("\n"),
  );
  return [`--dataset_mixer={${path}: 1.0}`];
}

const said = (content: string, role = "assistant") => [{ role: "user", content: "hello" }, { role, content }];

test("all mistakes of a configuration come at once, with status 2", async (folder) => {
  const overrides = ["--max_lenght=64", "--learning_rate=fast", "--lr_scheduler_type=square"];
  const { stderr } = await refuses(folder, {
    overrides,
    status: 2,
    says: [/max_lenght.*did you mean max_length/, /learning_rate.*fast/, /lr_scheduler_type.*square/],
  });
  assert.equal(stderr.trim().split("\n").length, 3);
});

test("a model folder that is not there", (folder) =>
  refuses(folder, {
    overrides: ["--model_name_or_path=./nowhere/model"],
    says: [/nowhere\/model.*no such folder/],
  }));

test("a name that is no folder here, nor of the Hub's cache, offline", (folder) =>
  refuses(folder, {
    overrides: ["--model_name_or_path=nowhere/model"],
    env: { HF_HOME: folder, HF_HUB_OFFLINE: "1" },
    says: [
      /nowhere\/model: no such folder here, and HF_HUB_OFFLINE is set/,
      /simper fetch nowhere\/model/,
    ],
  }));

test("a model folder without its tokenizer", async (folder) => {
  const model = await modelWith(folder, () => {});
  await Deno.remove(join(model, "tokenizer.json"));
  return await refuses(folder, { overrides: [`--model_name_or_path=${model}`], says: [/tokenizer\.json/] });
});

test("a tensor of another shape than config.json says", async (folder) => {
  const model = await modelWith(folder, (tensor) => {
    if (tensor.name.includes("layers.1.mlp.up_proj")) tensor.shape.reverse();
  });
  return await refuses(folder, {
    overrides: [`--model_name_or_path=${model}`],
    says: [/model\.layers\.1\.mlp\.up_proj\.weight: shape \[48,62\], expected \[62,48\]/],
  });
});

test("a tensor that is missing", async (folder) => {
  const model = await modelWith(folder, (tensor) => {
    if (tensor.name === "lm_head.weight") tensor.name = "head.weight";
  });
  const says = [/lm_head\.weight: missing, expected shape \[303,48\]/];
  return await refuses(folder, { overrides: [`--model_name_or_path=${model}`], says });
});

test("a safetensors file that was cut short", async (folder) => {
  const model = await modelWith(folder, () => {});
  await Deno.truncate(join(model, "model.safetensors"), 40_000);
  return await refuses(folder, {
    overrides: [`--model_name_or_path=${model}`],
    says: [/model\.safetensors.*40000/s],
  });
});

test("a weight that is not a number stops the run before the update", async (folder) => {
  const model = await modelWith(folder, (tensor) => {
    if (tensor.name === "model.layers.0.mlp.down_proj.weight") tensor.values[5] = NaN;
  });
  return await refuses(folder, {
    overrides: [`--model_name_or_path=${model}`],
    began: true,
    says: [
      /step 1: the loss of \S+pairs\.jsonl:1 is not finite/,
      /first bad tensor is the weight model\.layers\.0\.mlp\.down_proj\.weight \(element 5 is NaN\)\. So it is in the model/,
      // No learning rate would help.
      /^(?!.*learning_rate).* is not finite\. /m,
    ],
  });
});

test("a row that is no JSON", async (folder) =>
  await refuses(folder, {
    overrides: await dataWith(folder, { chosen: said("yes"), rejected: said("no") }, '{"chosen": ['),
    says: [/data\.jsonl:2: /],
  }));

test("a row without chosen", async (folder) =>
  await refuses(folder, {
    overrides: await dataWith(folder, { choosen: said("yes"), rejected: said("no") }),
    says: [/data\.jsonl:1: .*chosen.*choosen/s],
  }));

test("roles that the template refuses", async (folder) => {
  const template = "{% for m in messages %}{% if m.role not in ['user', 'assistant'] %}" +
    "{{ raise_exception('no role ' + m.role) }}{% endif %}{{ m.content }}{% endfor %}";
  return await refuses(folder, {
    overrides: [
      ...await dataWith(folder, { chosen: said("yes", "narrator"), rejected: said("no") }),
      `--chat_template=${template}`,
    ],
    says: [/data\.jsonl:1: .*no role narrator/s],
  });
});

test("a machine without an adapter", (folder) =>
  refuses(folder, {
    // Without the backend named, wgpu may still find OpenGL.
    env: { VK_DRIVER_FILES: "/nowhere.json", DENO_WEBGPU_BACKEND: "vulkan" },
    says: [/no WebGPU adapter/, /mesa-vulkan-drivers/],
  }));

test("a model that does not fit, with what would", async (folder) => {
  const { stderr } = await refuses(folder, {
    overrides: ["--device_memory=2MB"],
    says: [/needs .* MB, and 2\.0 MB are there/, /weights/, /activations/, /gradient_checkpointing: true/],
  });
  assert.match(stderr, /per_device_train_batch_size: 1.*(fits|does not fit)/);
});

Deno.test("an output folder that holds a run is refused unless told to overwrite it", () =>
  withTemporaryFolder(async (folder) => {
    await Deno.writeTextFile(join(folder, "trainer_state.json"), "{}");
    const run = (...more: string[]) =>
      taskWith(
        {},
        "train",
        `${GOLDEN}/run.yaml`,
        `--output_dir=${folder}`,
        "--log_level=error",
        "--max_steps=1",
        ...more,
      );
    const refused = await run();
    assert.equal(refused.status, 2);
    assert.match(refused.stderr, /output_dir.*not empty.*--overwrite_output_dir/s);
    assert.equal(await Deno.readTextFile(join(folder, "trainer_state.json")), "{}");
    assert.deepEqual(await run("--overwrite_output_dir"), { status: 0, stdout: "", stderr: "" });
  }));

Deno.test("long pairs and empty responses are counted and said, and trained on by the published rules", () =>
  withTemporaryFolder(async (folder) => {
    const long = "a long and winding answer ".repeat(20);
    const data = await dataWith(
      folder,
      { chosen: said("yes"), rejected: said(long) },
      { chosen: said(""), rejected: said("no") },
    );
    const out = `--output_dir=${join(folder, "out")}`;
    const { status, stderr } = await taskWith(
      {},
      "train",
      `${GOLDEN}/run.yaml`,
      out,
      "--max_steps=1",
      ...data,
    );
    assert.equal(status, 0);
    assert.match(stderr, /1 of 2 pairs were longer than max_length/);
    assert.match(stderr, /data\.jsonl:2: .*empty response/);
    // deno-lint-ignore no-control-regex -- the output is no terminal
    assert.doesNotMatch(stderr, /\x1b/);
  }));
