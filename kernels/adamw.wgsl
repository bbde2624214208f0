// AdamW on a clipped gradient. Does nothing where the gradient norm is not finite, so that the weights stay as they
// were. First and Second are the moments' types in storage, and unpack_... and pack_... what they are read and
// written by (storage.ts). A thread updates four vec4s of LENGTH (COUNT floats in all), so that it reads the step's
// numbers once; threads side by side stay side by side. Grid: LENGTH / 256 workgroups (x, spilling into y).
@group(0) @binding(3) var<storage, read> gradients: array<vec4f>;
@group(0) @binding(4) var<storage, read_write> weights: array<Weight>;
@group(0) @binding(5) var<storage, read_write> first: array<First>;
@group(0) @binding(6) var<storage, read_write> second: array<Second>;

fn update(i: u32) {
  let past = vec4u(4u * i) + vec4u(0u, 1u, 2u, 3u) >= vec4u(COUNT);
  let g = select(gradients[i] * clip.coefficient, vec4f(), past);
  let m = first_moment(unpack_first(first[i]), g);
  let v = second_moment(unpack_second(second[i]), g);
  first[i] = pack_first(m, vec2u());
  second[i] = pack_second(v, counters(i, hyper.second_key));
  weights[i] = stepped(weights[i], i, m, v);
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
