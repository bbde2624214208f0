// Last stage of the gradient norm, and torch's clip_grad_norm_: coefficient = min(1, max_norm / (norm + 1e-6)).
// clip = (norm, coefficient, 1 where this or an earlier norm is not finite else 0, 0). One thread.
struct Clip { norm: f32, coefficient: f32, broken: f32, unused: f32 }
@group(0) @binding(0) var<storage, read> squares: array<f32>;
@group(0) @binding(1) var<storage, read_write> clip: Clip;

@compute @workgroup_size(1)
fn main() {
  if (clip.broken != 0.0) { return; }
  var sum = 0.0;
  for (var i = 0u; i < PARAMETERS; i += 1u) { sum += squares[i]; }
  // The exponent's bits, since drivers may assume that no NaN exists.
  let broken = (bitcast<u32>(sum) & 0x7f800000u) == 0x7f800000u;
  let norm = sqrt(sum);
  var coefficient = 1.0;
  if (MAX_NORM_F > 0.0) { coefficient = min(1.0, MAX_NORM_F / (norm + 1.0e-6)); }
  clip = Clip(norm, coefficient, select(0.0, 1.0, broken), 0.0);
}
