import { UserError } from "../errors.ts";
import { show } from "../text/json.ts";
import type { ModelConfig } from "../models/architecture.ts";
import { loadVocabulary, type Vocabulary } from "../tokenizer/tokenizer.ts";

/**
 * Refuses a reference model to which the trained model's token ids would say something else.
 * @throws {UserError} with both numbers of tokens, or the first token that differs.
 */
export async function checkVocabulary(
  folder: string,
  reference: ModelConfig,
  model: ModelConfig,
  vocabulary: Vocabulary,
): Promise<void> {
  const refuse = (expected: string, found: string) => {
    throw new UserError(
      `ref_model: expected the vocabulary of model_name_or_path, ${expected}, found ${found} in ${folder}: ` +
        "both have to read the same tokens",
    );
  };
  const [own, other] = [model, reference].map(({ vocabSize }) => vocabSize);
  if (own !== other) refuse(`of ${own} tokens (vocab_size)`, `${other}`);
  const found = await loadVocabulary(folder);
  if (found.vocabSize !== vocabulary.vocabSize) {
    refuse(`with ${vocabulary.vocabSize} tokens in its tokenizer`, `${found.vocabSize}`);
  }
  if (found.fingerprint === vocabulary.fingerprint) return;
  for (let id = 0; id < vocabulary.vocabSize; id++) {
    const [expected, there] = [vocabulary, found].map((each) => show(each.tokenOf(id)));
    if (expected !== there) refuse(`whose token ${id} is ${expected}`, there);
  }
}
