// delta[token, head] = sum over the head of out * d_out: the row term of the softmax gradient (FlashAttention, B.2).
// Grid: flat over tokens x HEADS.
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> out: array<E>;
@group(0) @binding(2) var<storage, read> d_out: array<E>;
@group(0) @binding(3) var<storage, read_write> delta: array<f32>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let i = flat_index(group, groups, local);
  if (i >= rows.count * HEADS) { return; }
  var sum = 0.0;
  for (var d = 0u; d < COLUMNS; d += 1u) { sum += product(out[i * COLUMNS + d], d_out[i * COLUMNS + d]); }
  delta[i] = sum;
}
