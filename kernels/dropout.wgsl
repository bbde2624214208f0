// Inverted dropout: an element stays with probability 1 - P and is divided by that, or becomes 0. What stays follows
// from rows.key (of the seed, the step and its batch), PLACE and the element alone, so that the backward pass, and a
// resumed run, draw it again; where the key is 0 all stays as it is. source(i) and put(i, value) read and write.
// Grid: flat over rows x COLUMNS elements.
fn keeps(i: u32) -> bool {
  let drawn = hash2(vec2u(i >> 1u, rows.key + PLACE * 0x9e3779b9u));
  return select(drawn.x, drawn.y, (i & 1u) == 1u) >= DROPPED;
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let i = flat_index(group, groups, local);
  if (i >= rows.count * COLUMNS) { return; }
  var value = source(i);
  if (rows.key != 0u) { value = select(0.0, value / (1.0 - P_F), keeps(i)); }
  put(i, value);
}
