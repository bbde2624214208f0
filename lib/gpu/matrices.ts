/** The matrices that a device's subgroups multiply, as its adapter lists them: which ones kernels take. */
import { uniform } from "../random.ts";

/** Matrices that the threads of a subgroup multiply together: `m` x `k` times `k` x `n`. */
export interface Matrices {
  /** Rows of the left one and of the sums. */
  readonly m: number;
  /** Columns of the right one and of the sums. */
  readonly n: number;
  /** Columns of the left one, rows of the right one. */
  readonly k: number;
  /** Threads of a subgroup. */
  readonly lanes: number;
  /** Memory that a workgroup may have. */
  readonly workgroupBytes: number;
}

/** A kind of subgroup matrices, as Dawn lists it. */
interface MatrixConfig {
  componentType: string;
  resultComponentType: string;
  M: number;
  N: number;
  K: number;
}

/** Chrome's own names, since no standard has them yet. */
const MATRICES = "chromium-experimental-subgroup-matrix" as GPUFeatureName;
/** Lets a kernel say how many threads its subgroups have, where a GPU has several sizes. */
const SIZE_CONTROL = "subgroup-size-control" as GPUFeatureName;
/** What float16 matrices need besides. */
const FLOAT16 = "shader-f16" as GPUFeatureName;

/** What a device is asked for that is to multiply matrices: nothing where the adapter has none. */
export const matrixFeatures = ({ features }: GPUAdapter): GPUFeatureName[] =>
  features.has(MATRICES) ? [FLOAT16, MATRICES, SIZE_CONTROL].filter((name) => features.has(name)) : [];

const matrixConfigs = ({ info }: GPUAdapter): MatrixConfig[] => [
  ...(info as { subgroupMatrixConfigs?: Iterable<MatrixConfig> }).subgroupMatrixConfigs ?? [],
];

/** Every kind that the adapter lists, for people. */
export const matrixKinds = (adapter: GPUAdapter): string[] =>
  matrixConfigs(adapter).map(({ componentType, resultComponentType, M, N, K }) =>
    `${componentType} x ${componentType} -> ${resultComponentType} ${M}x${N}x${K}`
  );

/**
 * The largest matrices of that type with sums of float32. Kernels count on the size of a subgroup, which some GPUs
 * (Intel's, AMD's) choose for each kernel: they are asked for their smallest, in which Intel's multiply matrices and
 * AMD's do too. (Not tried for want of one; the tuner takes no way whose products are wrong.)
 */
export function matricesOf(
  adapter: GPUAdapter,
  device: GPUDevice,
  type: "f16" | "f32",
): Matrices | undefined {
  const { features, limits } = device;
  const { subgroupMinSize: lanes, subgroupMaxSize } = adapter.info;
  if (lanes !== subgroupMaxSize && !features.has(SIZE_CONTROL)) return;
  if (!features.has(MATRICES) || type === "f16" && !features.has(FLOAT16)) return;
  const [largest] = matrixConfigs(adapter)
    .filter(({ componentType, resultComponentType, M, N, K }) =>
      componentType === type && resultComponentType === "f32" &&
      // Each thread reads whole vec4s of one to four matrices of sums, tiles are 16 or 32 deep, and fit in 16 KiB.
      M * N % lanes === 0 && (M * N % (4 * lanes) === 0 || 4 * lanes % (M * N) === 0) &&
      N % 4 === 0 && lanes % (N / 4) === 0 && 16 % K === 0 && M * N <= 256
    )
    .sort((one, other) => other.M * other.N * other.K - one.M * one.N * one.K);
  const workgroupBytes = limits.maxComputeWorkgroupStorageSize;
  return largest && { m: largest.M, n: largest.N, k: largest.K, lanes, workgroupBytes };
}

/** `source`, whose subgroups of `lanes` threads multiply matrices, with the extensions of WGSL that it needs. */
export function withMatrices({ features }: GPUDevice, lanes: number, source: string): string {
  const asksForSize = features.has(SIZE_CONTROL);
  const extensions = [
    ...features.has(FLOAT16) ? ["f16"] : [],
    "subgroups",
    "chromium_experimental_subgroup_matrix",
    ...asksForSize ? ["subgroup_size_control"] : [],
  ];
  return `enable ${extensions.join(", ")};\n${
    asksForSize ? source.replace("@compute ", `@compute @subgroup_size(${lanes}) `) : source
  }`;
}

type Shape = Pick<Matrices, "m" | "n" | "k">;

/**
 * Operands of three products, [products, m, k] and behind them [products, k, n], of numbers whose 24 bits all count: of
 * the first product each row of the left one, and of the second each column of the right one, has a power of two and
 * else zeros, so that the sums are the other's numbers.
 */
export function operandsOfProof({ m, n, k }: Shape): Float32Array<ArrayBuffer> {
  const next = uniform(1);
  const full = () => (next() < 0.5 ? -1 : 1) * (2 ** 23 + 2 * Math.floor(next() * 2 ** 22) + 1) / 2 ** 23;
  const single = (line: number, inner: number) => inner === line % k ? 2 ** (line % 4 - 2) : 0;
  const left = (value: typeof single) =>
    Array.from({ length: m * k }, (_, i) => value(Math.floor(i / k), i % k));
  const right = (value: typeof single) =>
    Array.from({ length: k * n }, (_, i) => value(i % n, Math.floor(i / n)));
  return Float32Array.from(
    [left(single), left(full), left(full), right(full), right(single), right(full)].flat(),
  );
}
const PRODUCTS = 3;

/**
 * Whether these are the products, added up twice, in float32: where one operand has powers of two and zeros exactly,
 * and else but for a rounding of each product and sum, to the nearest or towards 0. Operands of fewer bits would show
 * in the former: those of TF32 have 11.
 */
export function isFloat32({ m, n, k }: Shape, operands: Float32Array, found: Float32Array): boolean {
  for (let product = 0; product < PRODUCTS; product++) {
    for (let row = 0; row < m; row++) {
      for (let column = 0; column < n; column++) {
        let [sum, size] = [0, 0];
        for (let inner = 0; inner < k; inner++) {
          const term = operands[(product * m + row) * k + inner] *
            operands[PRODUCTS * m * k + (product * k + inner) * n + column];
          sum += 2 * term;
          size += 2 * Math.abs(term);
        }
        const bound = product < 2 ? 0 : (2 * k + 1) * 2 ** -23 * size;
        if (!(Math.abs(found[(product * m + row) * n + column] - sum) <= bound)) return false;
      }
    }
  }
  return true;
}

/** Whether the device's matrices of float32 multiply as float32 does, and not what they have rounded first. */
export async function multipliesFloat32(device: GPUDevice, { m, n, k, lanes }: Matrices): Promise<boolean> {
  const operands = operandsOfProof({ m, n, k });
  const bytes = 4 * PRODUCTS * m * n;
  device.pushErrorScope("validation");
  const code = withMatrices(
    device,
    lanes,
    `@group(0) @binding(0) var<storage, read> operands: array<f32>;
@group(0) @binding(1) var<storage, read_write> found: array<f32>;
@compute @workgroup_size(${lanes})
fn main(@builtin(workgroup_id) group: vec3u) {
  let a = subgroupMatrixLoad<subgroup_matrix_left<f32, ${k}, ${m}>, row_major>(&operands, group.x * ${
      m * k
    }u, ${k}u);
  let b = subgroupMatrixLoad<subgroup_matrix_right<f32, ${n}, ${k}>, row_major>(
    &operands, ${PRODUCTS * m * k}u + group.x * ${k * n}u, ${n}u);
  var sum: subgroup_matrix_result<f32, ${n}, ${m}>;
  sum = subgroupMatrixMultiplyAccumulate(a, b, sum);
  sum = subgroupMatrixMultiplyAccumulate(a, b, sum);
  subgroupMatrixStore<row_major>(&found, group.x * ${m * n}u, sum, ${n}u);
}
`,
  );
  const module = device.createShaderModule({ label: "float32 matrices", code });
  const pipeline = device.createComputePipeline({ layout: "auto", compute: { module, entryPoint: "main" } });
  const { STORAGE, COPY_DST, COPY_SRC, MAP_READ } = GPUBufferUsage;
  const [given, sums, read] = [
    { size: operands.byteLength, usage: STORAGE | COPY_DST },
    { size: bytes, usage: STORAGE | COPY_SRC },
    { size: bytes, usage: COPY_DST | MAP_READ },
  ].map((buffer) => device.createBuffer(buffer));
  try {
    device.queue.writeBuffer(given, 0, operands);
    const encoder = device.createCommandEncoder();
    const pass = encoder.beginComputePass();
    pass.setPipeline(pipeline);
    const entries = [given, sums].map((buffer, binding) => ({ binding, resource: { buffer } }));
    pass.setBindGroup(0, device.createBindGroup({ layout: pipeline.getBindGroupLayout(0), entries }));
    pass.dispatchWorkgroups(PRODUCTS);
    pass.end();
    encoder.copyBufferToBuffer(sums, 0, read, 0, bytes);
    device.queue.submit([encoder.finish()]);
    if (await device.popErrorScope()) return false;
    await read.mapAsync(GPUMapMode.READ);
    return isFloat32({ m, n, k }, operands, new Float32Array(read.getMappedRange()));
  } finally {
    for (const buffer of [given, sums, read]) buffer.destroy();
  }
}
