import { createRepo, uploadFiles, whoAmI } from "npm:@huggingface/hub@^2.17.5";
import { readdir } from "node:fs/promises";
import { basename, join, resolve } from "node:path";
import type { TrainConfig } from "../config/schema.ts";
import { UserError } from "../errors.ts";
import type { OnProgress } from "../progress/progress.ts";
import { FileBlob } from "./file_blob.ts";
import { apiFetch, Refused } from "./http.ts";
import { parseRepo, repoPage } from "./repo.ts";
import { checkToken, type HubSettings, hubSettings } from "./settings.ts";

/** A repository that is ready to take a run's result. */
export interface Upload {
  /** `owner/name`. */
  name: string;
  /** The repository's page. */
  page: string;
  /**
   * Uploads the files of a folder, as one commit.
   * @throws {UserError} where that fails; the folder stays as it is.
   */
  push: (folder: string, onProgress?: OnProgress) => Promise<void>;
}

/**
 * Makes the repository that `push_to_hub` uploads to, where it is not there yet: before a run begins, so that a token
 * that may not write is known before hours of training. A name without an owner is the token's own user's.
 *
 * @throws {UserError} without a token, and where the Hub refuses.
 */
export async function openUpload(
  config: Pick<TrainConfig, "hubModelId" | "hubPrivateRepo" | "hubToken" | "outputDir">,
  settings?: HubSettings,
): Promise<Upload> {
  const found = settings ?? await hubSettings();
  const hub: HubSettings = {
    ...found,
    token: config.hubToken === undefined ? found.token : checkToken(config.hubToken),
  };
  if (hub.offline) {
    throw new UserError("push_to_hub: HF_HUB_OFFLINE is set: unset it, or turn push_to_hub off", 2);
  }
  const { token: accessToken, endpoint: hubUrl } = hub;
  if (!accessToken?.startsWith("hf_")) {
    throw new UserError(
      `push_to_hub: expected a token that may write (hf_...), found ${
        accessToken ? "another text" : "none"
      }: set ` +
        `HF_TOKEN to one of ${hubUrl}/settings/tokens, or run \`hf auth login\``,
      2,
    );
  }
  const written = config.hubModelId ?? basename(resolve(config.outputDir));
  let name = written;
  if (!name.includes("/")) {
    const about = { type: "model", name: `(you)/${written}`, revision: "main" } as const;
    name = `${(await whoAmI({ accessToken, hubUrl, fetch: apiFetch(hub, about) })).name}/${written}`;
  }
  const repo = parseRepo(name, "model");
  if (repo?.name !== name) {
    throw new UserError(`hub_model_id: expected owner/name or a name, found ${JSON.stringify(written)}`, 2);
  }
  const fetch = apiFetch(hub, repo);
  const designation = { type: "model", name } as const;
  try {
    const visibility = config.hubPrivateRepo ? "private" : undefined;
    await createRepo({ repo: designation, visibility, accessToken, hubUrl, fetch });
  } catch (error) {
    // 409: it is there already.
    if (!(error instanceof Refused && error.httpStatus === 409)) throw error;
  }
  const page = repoPage(hubUrl, repo);
  return {
    name,
    page,
    push: async (folder, onProgress) => {
      const entries = await readdir(folder, { withFileTypes: true });
      const names = entries.filter((entry) => entry.isFile() && !/^\.|\.tmp$/.test(entry.name));
      // A byte is read to be hashed, and again to be sent: each time it is half done.
      let read = 0;
      let total = 0;
      const report = (done: number) =>
        onProgress?.({ what: `uploading ${name}`, done, total, unit: "bytes" });
      const onRead = (bytes: number) => {
        read += bytes;
        report(Math.min(read / 2, total - 1));
      };
      const files = await Promise.all(names.map(async ({ name }) => ({
        path: name,
        content: await FileBlob.of(join(folder, name), onRead),
      })));
      total = files.reduce((sum, { content }) => sum + content.size, 0);
      report(0);
      try {
        // Git LFS's protocol: the Hub takes it from every client, and files are streamed as they are.
        const commitTitle = "Upload the model and the report of its training";
        await uploadFiles({
          repo: designation,
          files,
          commitTitle,
          accessToken,
          hubUrl,
          fetch,
          useXet: false,
        });
        report(total);
      } catch (error) {
        const hint = `the result is in ${folder}, and \`hf upload ${name} ${folder}\` uploads it`;
        throw new UserError(`push_to_hub: ${(error as Error).message}; ${hint}`);
      }
    },
  };
}
