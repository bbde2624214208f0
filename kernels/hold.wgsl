// A block of a matrix into a texture: of `rows` rows from row `first` on `texels` of 16 bytes each, which `texel`,
// before this text, makes of PER_TEXEL elements, from column `column` on, to texel (x, y) and on. Grid: flat over rows
// x texels.
struct Block { first: u32, column: u32, rows: u32, texels: u32, length: u32, elements: u32, x: u32, y: u32 }
@group(0) @binding(0) var<uniform> block: Block;
@group(0) @binding(1) var<storage, read> matrix: array<MatrixElement>;
@group(0) @binding(2) var held: texture_storage_2d<HeldFormat, write>;

@compute @workgroup_size(64)
fn main(@builtin(workgroup_id) group: vec3u, @builtin(num_workgroups) groups: vec3u,
        @builtin(local_invocation_index) local: u32) {
  let i = flat_index(group, groups, local);
  if (i >= block.rows * block.texels) { return; }
  let at = vec2u(i % block.texels, i / block.texels);
  let to = at + vec2u(block.x, block.y);
  textureStore(held, to, texel((block.first + at.y) * block.length + block.column + at.x * PER_TEXEL));
}
