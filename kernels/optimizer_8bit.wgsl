// The same with moments in bytes, as bitsandbytes' block-wise optimizers: each 256 elements, 64 vec4s, have the largest
// magnitude of each moment in `absmax`, a Scale, and their bytes stand for shares of it (dynamic_map.ts). The update is
// made of moments that are not rounded yet. Does nothing where the gradient norm is not finite. Eight threads do a
// block, so that few wait for each other. LENGTH vec4s, of whole blocks but for the last. Grid: LENGTH / 512 workgroups
// (x, spilling into y).
@group(0) @binding(5) var<storage, read_write> absmax: array<Scale>;
@group(0) @binding(6) var<storage, read> map: array<f32>;
var<workgroup> largest: array<Scale, 64>;

// 1 / x, and 0 where that would not be a number.
fn inverse(x: Scale) -> Scale { return select(1.0 / x, Scale(), x < Scale(1.1754944e-38)); }

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  if (clip.broken != 0.0) { return; }
  let block = (group.y * groups.x + group.x) * 8u + local / 8u;
  let begin = block * 64u + local % 8u;
  var scale = Scale();
  if (block * 64u < LENGTH) { scale = absmax[place.scale + block]; }
  var moments: array<Moments, 8>;
  var own = Scale();
  for (var n = 0u; n < 8u; n += 1u) {
    let i = begin + n * 8u;
    if (i < LENGTH) {
      moments[n] = update(i, moments_at(i, scale), gradients[i] * clip.coefficient);
      own = max(own, largest_of(moments[n]));
    }
  }
  largest[local] = own;
  workgroupBarrier();
  var all = Scale();
  for (var n = 0u; n < 8u; n += 1u) { all = max(all, largest[local / 8u * 8u + n]); }
  let unit = inverse(all);
  for (var n = 0u; n < 8u; n += 1u) {
    let i = begin + n * 8u;
    if (i < LENGTH) { keep_moments(i, moments[n], unit); }
  }
  // All have read it before the barrier.
  if (local % 8u == 0u && block * 64u < LENGTH) { absmax[place.scale + block] = all; }
}
