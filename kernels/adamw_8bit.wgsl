// AdamW on a clipped gradient with moments in bytes, as bitsandbytes' block-wise optimizers: each 256 elements, 64
// vec4s, have their largest magnitude in `absmax` (first moment, second), and their bytes stand for shares of it
// (dynamic_map.ts). The update is made of the new moments before they are rounded. Does nothing where the gradient
// norm is not finite. Eight threads do a block, so that few wait for each other. LENGTH vec4s, of whole blocks but
// for the last. Grid: LENGTH / 512 workgroups (x, spilling into y).
@group(0) @binding(3) var<storage, read> map: array<f32>;
@group(0) @binding(4) var<storage, read_write> absmax: array<vec2f>;
@group(0) @binding(5) var<storage, read> gradients: array<vec4f>;
@group(0) @binding(6) var<storage, read_write> weights: array<Weight>;
@group(0) @binding(7) var<storage, read_write> first: array<u32>;
@group(0) @binding(8) var<storage, read_write> second: array<u32>;
var<workgroup> largest: array<vec2f, 64>;

// 1 / x, and 0 where that would not be a number.
fn inverse(x: vec2f) -> vec2f { return select(1.0 / x, vec2f(), x < vec2f(1.1754944e-38)); }
fn most(v: vec4f) -> f32 { return max(max(v.x, v.y), max(v.z, v.w)); }

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  if (clip.broken != 0.0) { return; }
  let block = (group.y * groups.x + group.x) * 8u + local / 8u;
  let begin = block * 64u + local % 8u;
  let scale = absmax[place.scale + block];
  var m: array<vec4f, 8>;
  var v: array<vec4f, 8>;
  var own = vec2f();
  for (var n = 0u; n < 8u; n += 1u) {
    let i = begin + n * 8u;
    if (i < LENGTH) {
      let g = gradients[i] * clip.coefficient;
      m[n] = first_moment(unpack_signed(first[i]) * scale.x, g);
      v[n] = second_moment(unpack_unsigned(second[i]) * scale.y, g);
      own = max(own, vec2f(most(abs(m[n])), most(v[n])));
      weights[i] = stepped(weights[i], i, m[n], v[n]);
    }
  }
  largest[local] = own;
  workgroupBarrier();
  var all = vec2f();
  for (var n = 0u; n < 8u; n += 1u) { all = max(all, largest[local / 8u * 8u + n]); }
  let unit = inverse(all);
  for (var n = 0u; n < 8u; n += 1u) {
    let i = begin + n * 8u;
    if (i < LENGTH) {
      first[i] = pack_signed(m[n] * unit.x);
      second[i] = pack_unsigned(v[n] * unit.y);
    }
  }
  // All have read it before the barrier.
  if (local % 8u == 0u && block * 64u < LENGTH) { absmax[place.scale + block] = all; }
}
