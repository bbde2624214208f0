// The logarithm of the sum of the squares of each label's probabilities, from the logits of a piece and the
// logarithms of their sums of exponentials; `score` stands before this text. One workgroup a label; sums in a fixed
// order. Writes squares[label]. Grid: labels of the piece (x, spilling into y).
@group(0) @binding(0) var<uniform> rows: Rows;
@group(0) @binding(1) var<storage, read> logits: array<vec4f>;
@group(0) @binding(2) var<storage, read> lse: array<f32>;
@group(0) @binding(3) var<storage, read_write> squares: array<f32>;
var<workgroup> partial: array<f32, 64>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let row = group.y * groups.x + group.x;
  if (row >= rows.count) { return; }
  var sum = vec4f();
  for (var i = local; i < STRIDE; i += 64u) {
    let column = vec4u(4u * i) + vec4u(0u, 1u, 2u, 3u);
    let p = exp_accurate4(score(logits[row * STRIDE + i]) - lse[row]);
    sum += select(p * p, vec4f(), column >= vec4u(VOCABULARY));
  }
  partial[local] = (sum.x + sum.y) + (sum.z + sum.w);
  workgroupBarrier();
  if (local != 0u) { return; }
  var all = 0.0;
  for (var i = 0u; i < 64u; i += 1u) { all += partial[i]; }
  squares[row] = log(all);
}
