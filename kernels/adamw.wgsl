// AdamW (arXiv 1711.05101) as torch.optim.AdamW computes it, on a clipped gradient. Does nothing where the gradient norm
// is not finite, so that the weights stay as they were. Weights from element DECAY_END on are not decayed. First and Second
// are the moments' types in storage, and unpack_... and pack_... what they are read and written by (storage.ts).
// A thread updates four vec4s of LENGTH (COUNT floats in all), so that it reads the step's numbers once; threads side by
// side stay side by side. Grid: LENGTH / 256 workgroups (x, spilling into y).
// The host computes, in float64: step_size = learning_rate / (1 - beta1^t), kept = 1 - learning_rate * weight_decay.
struct Step { step_size: f32, kept: f32, one_minus_beta1: f32, beta2: f32, one_minus_beta2: f32, epsilon: f32,
  root_correction2: f32, number: u32 }
struct Clip { norm: f32, coefficient: f32, broken: f32, unused: f32 }
@group(0) @binding(0) var<uniform> place: Place;
@group(0) @binding(1) var<uniform> hyper: Step;
@group(0) @binding(2) var<storage, read> clip: Clip;
@group(0) @binding(3) var<storage, read> gradients: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> weights: array<vec4f>;
@group(0) @binding(5) var<storage, read_write> first: array<First>;
@group(0) @binding(6) var<storage, read_write> second: array<Second>;

fn update(i: u32) {
  let past = vec4u(4u * i) + vec4u(0u, 1u, 2u, 3u) >= vec4u(COUNT);
  let g = select(gradients[i] * clip.coefficient, vec4f(), past);
  let m_before = unpack_first(first[i]);
  let m = m_before + (g - m_before) * hyper.one_minus_beta1;
  let v = unpack_second(second[i]) * hyper.beta2 + g * g * hyper.one_minus_beta2;
  first[i] = pack_first(m);
  second[i] = pack_second(v, vec2u(place.block * NORM_BLOCK + i, hyper.number));
  let w = weights[i] * select(1.0, hyper.kept, i < DECAY_END);
  weights[i] = w - hyper.step_size * (m / (sqrt(v) / hyper.root_correction2 + hyper.epsilon));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  if (clip.broken != 0.0) { return; }
  let begin = (group.y * groups.x + group.x) * 256u + local / 8u * 32u + local % 8u;
  for (var n = 0u; n < 4u; n += 1u) {
    let i = begin + n * 8u;
    if (i >= LENGTH) { break; }
    update(i);
  }
}
