// Inverted dropout: an element stays with probability 1 - P and is divided by that, or becomes 0. What stays follows
// from rows.key (of the seed, the step and its batch), PLACE and the element alone, so that the backward pass, and a
// resumed run, draw it again; where the key is 0 all stays as it is. source(i) and put(i, value) read and write an E,
// and kept(i, value) leaves of it what stays. Grid: flat over rows x COLUMNS of E.

// Draws for two elements.
fn drawn(pair: u32) -> vec2u { return hash2(vec2u(pair, rows.key + PLACE * 0x9e3779b9u)); }

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let i = flat_index(group, groups, local);
  if (i >= rows.count * COLUMNS) { return; }
  var value = source(i);
  if (rows.key != 0u) { value = kept(i, value / (1.0 - P_F)); }
  put(i, value);
}
