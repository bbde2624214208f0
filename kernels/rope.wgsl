// Rotary position embedding (arXiv 2104.09864) on the query and key heads of qkv: (a, b) -> (a cos - b sin, b cos + a
// sin); BACKWARD turns the other way. Of each head of HEAD elements the first 2 HALF turn: pair i is elements i and i
// + HALF, or 2i and 2i + 1 (STEP and APART). The table comes from the host in float64, since drivers' sin and cos are
// off by up to 7e-4. `source(i)`, which stands before this text, is element i of what is rotated: y itself, or
// another tensor, of which REST more elements a token are copied. Grid: flat over tokens x (PAIRS + REST) elements.
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> spans: array<vec4u>;
@group(0) @binding(2) var<storage, read> cos_sin: array<E>;
@group(0) @binding(3) var<storage, read_write> y: array<E>;

const PAIRS = HEADS * HALF;
const PASSED = HEAD - 2u * HALF;

// The element of a row that is the i-th of those which do not turn: of the heads, then of the values.
fn passed(i: u32) -> u32 {
  if (i >= HEADS * PASSED) { return HEADS * HEAD + i - HEADS * PASSED; }
  return i / max(PASSED, 1u) * HEAD + 2u * HALF + i % max(PASSED, 1u);
}

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let i = flat_index(group, groups, local);
  let token = i / (PAIRS + REST);
  if (token >= rows.count) { return; }
  let pair = i % (PAIRS + REST);
  if (pair >= PAIRS) {
    let at = token * STRIDE + passed(pair - PAIRS);
    y[at] = source(at);
    return;
  }
  let column = pair % HALF;
  let entry = spans[token].w * 2u * HALF + column;
  let c = cos_sin[entry];
  var s = cos_sin[entry + HALF];
  if (BACKWARD == 1u) { s = -s; }
  let first = token * STRIDE + pair / HALF * HEAD + STEP * column;
  let a = source(first);
  let b = source(first + APART);
  y[first] = a * c - b * s;
  y[first + APART] = b * c + a * s;
}
