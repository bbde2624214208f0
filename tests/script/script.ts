import { type FunctionLoss, loadModel, train } from "../../mod.ts";

// A hinge on how much likelier the chosen answer is, token by token.
const loss: FunctionLoss = {
  name: "my-hinge",
  of: (chosen, rejected) => {
    const margin = chosen.sum / chosen.labels - rejected.sum / rejected.labels;
    const slope = margin < 1 ? 1 : 0;
    return {
      value: Math.max(0, 1 - margin),
      dChosen: -slope / chosen.labels,
      dRejected: slope / rejected.labels,
    };
  },
};
async function* pairs() {
  const capitals = { Italy: ["Rome", "Milan"], Norway: ["Oslo", "Bergen"], Japan: ["Tokyo", "Osaka"] };
  for (const [country, [chosen, rejected]] of Object.entries(capitals)) {
    yield await Promise.resolve({ prompt: `What is the capital of ${country}?`, chosen, rejected });
  }
}
const keys = {
  model_name_or_path: "configs/tiny/model",
  output_dir: "scripted",
  learning_rate: 1e-3,
  max_steps: 100,
  logging_steps: 1,
};
const stop = new AbortController();
const onStep = ({ step }: { step: number }) => step === 6 && stop.abort();
{
  await using run = await train(keys, { data: pairs(), loss, signal: stop.signal, onStep });
  await run.save();
  console.log(run.isStopped, run.steps);
}
await using model = await loadModel("scripted", { maxLength: 64 });
console.log((await model.evaluate(pairs()))["rewards/accuracies"]);
for await (const piece of model.generate("What is the capital of Italy?", { maxNewTokens: 8 })) {
  console.log(piece);
}
