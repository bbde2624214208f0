// Rows of a matrix, from row FIRST on, into a texture: TEXELS of 16 bytes a row, which `texel`, before this text, makes of the matrix.
// Grid: flat over ROWS x TEXELS.
@group(0) @binding(0) var<storage, read> matrix: array<vec4f>;
@group(0) @binding(1) var held: texture_storage_2d<HeldFormat, write>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let i = flat_index(group, groups, local);
  if (i >= ROWS * TEXELS) { return; }
  textureStore(held, vec2u(i % TEXELS, i / TEXELS), texel(FIRST * TEXELS + i));
}
