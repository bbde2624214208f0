// What the kernels that update weights have in common: the step, and the new weights. Figures are the optimizer's own,
// with `moments_after(before, g)` and `change_of(before, after, g)`, which is taken from the weights (adamw.wgsl,
// lion.wgsl); Moments has its moments, a vec4f each. Weights from vec4 DECAY_END on are not decayed: the others are
// multiplied by kept = 1 - learning_rate * weight_decay, which the host computes in float64. Weight is the weights' type
// in storage, and unpack_weights and pack_weights what they are read and written by (storage.ts). What is rounded by
// chance is so by a hash of a key, which follows from seed and step, and its place among all that is trained.
struct Step { kept: f32, weights_key: u32, moments_key: u32, @align(16) figures: Figures }
struct Clip { norm: f32, coefficient: f32, broken: f32, unused: f32 }
@group(0) @binding(0) var<uniform> place: Place;
@group(0) @binding(1) var<uniform> hyper: Step;
@group(0) @binding(2) var<storage, read> clip: Clip;
@group(0) @binding(3) var<storage, read> gradients: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> weights: array<Weight>;

fn counters(i: u32, key: u32) -> vec2u { return vec2u(place.block * NORM_BLOCK + i, key); }
fn update(i: u32, before: Moments, g: vec4f) -> Moments {
  let after = moments_after(before, g);
  let w = unpack_weights(weights[i]) * select(1.0, hyper.kept, i < DECAY_END);
  weights[i] = pack_weights(w - change_of(before, after, g), counters(i, hyper.weights_key));
  return after;
}
