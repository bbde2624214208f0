// AdamW (arXiv 1711.05101) as torch.optim.AdamW computes it. The host has, in float64: step_size = learning_rate /
// (1 - beta1^t), root_correction2 = sqrt(1 - beta2^t).
struct Figures { step_size: f32, one_minus_beta1: f32, beta2: f32, one_minus_beta2: f32, epsilon: f32,
  root_correction2: f32 }

fn moments_after(before: Moments, g: vec4f) -> Moments {
  return Moments(
    before.first + (g - before.first) * hyper.figures.one_minus_beta1,
    before.second * hyper.figures.beta2 + g * g * hyper.figures.one_minus_beta2);
}
fn change_of(before: Moments, after: Moments, g: vec4f) -> vec4f {
  return hyper.figures.step_size *
    (after.first / (sqrt(after.second) / hyper.figures.root_correction2 + hyper.figures.epsilon));
}
