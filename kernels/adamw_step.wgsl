// What the kernels of AdamW (arXiv 1711.05101, as torch.optim.AdamW computes it) have in common: the figures of a
// step and the new weights. Weights from vec4 DECAY_END on are not decayed. Weight is the weights' type in storage,
// and unpack_weights and pack_weights what they are read and written by (storage.ts). The host computes, in float64:
// step_size = learning_rate / (1 - beta1^t), kept = 1 - learning_rate * weight_decay. What is rounded by chance is so
// by a hash of a key, which follows from seed and step, and its place among all that is trained.
struct Step { step_size: f32, kept: f32, one_minus_beta1: f32, beta2: f32, one_minus_beta2: f32, epsilon: f32,
  root_correction2: f32, weights_key: u32, second_key: u32 }
struct Clip { norm: f32, coefficient: f32, broken: f32, unused: f32 }
@group(0) @binding(0) var<uniform> place: Place;
@group(0) @binding(1) var<uniform> hyper: Step;
@group(0) @binding(2) var<storage, read> clip: Clip;

fn counters(i: u32, key: u32) -> vec2u { return vec2u(place.block * NORM_BLOCK + i, key); }
fn stepped(packed: Weight, i: u32, m: vec4f, v: vec4f) -> Weight {
  let w = unpack_weights(packed) * select(1.0, hyper.kept, i < DECAY_END);
  return pack_weights(w - hyper.step_size * (m / (sqrt(v) / hyper.root_correction2 + hyper.epsilon)),
    counters(i, hyper.weights_key));
}
fn first_moment(before: vec4f, g: vec4f) -> vec4f { return before + (g - before) * hyper.one_minus_beta1; }
fn second_moment(before: vec4f, g: vec4f) -> vec4f { return before * hyper.beta2 + g * g * hyper.one_minus_beta2; }
