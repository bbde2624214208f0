// Lion (arXiv 2302.06675, algorithm 2) as bitsandbytes computes it: every weight moves by the learning rate, to where a
// mean of moment and gradient points; the moment then forgets at another rate.
struct Figures { learning_rate: f32, beta1: f32, one_minus_beta1: f32, beta2: f32, one_minus_beta2: f32 }

fn moments_after(before: Moments, g: vec4f) -> Moments {
  return Moments(before.first * hyper.figures.beta2 + g * hyper.figures.one_minus_beta2);
}
fn change_of(before: Moments, after: Moments, g: vec4f) -> vec4f {
  return hyper.figures.learning_rate *
    sign(before.first * hyper.figures.beta1 + g * hyper.figures.one_minus_beta1);
}
