// The update of an optimizer on a clipped gradient. Does nothing where the gradient norm is not finite, so that the
// weights stay as they were. `moments_at` and `keep_moments` read and write the moments as they are stored
// (optimizer_operations.ts). A thread updates four vec4s of LENGTH (COUNT floats in all), so that it reads the step's
// numbers once; threads side by side stay side by side. Grid: LENGTH / 256 workgroups (x, spilling into y).
fn update_at(i: u32) {
  let past = vec4u(4u * i) + vec4u(0u, 1u, 2u, 3u) >= vec4u(COUNT);
  let g = select(gradients[i] * clip.coefficient, vec4f(), past);
  keep_moments(i, update(i, moments_at(i), g));
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  if (clip.broken != 0.0) { return; }
  let begin = (group.y * groups.x + group.x) * 256u + local / 8u * 32u + local % 8u;
  for (var n = 0u; n < 4u; n += 1u) {
    let i = begin + n * 8u;
    if (i >= LENGTH) { break; }
    update_at(i);
  }
}
