/** Attention over a packed row of tokens in float64, with whole matrices of tokens by tokens. */
import type { AttentionShape } from "../../kernels/attention.ts";

/**
 * A query sees the keys from the span's first number up to its second, and from its third to its own row among them.
 */
export const sees = (spans: ArrayLike<number>, query: number, key: number, own = query): boolean =>
  (spans[4 * query] <= key && key < spans[4 * query + 1]) || (spans[4 * query + 2] <= key && key <= own);

/** Where a row of qkv holds a query head, and the key and value that the query head looks at. */
function columnsOf({ heads, keyValueHeads, headDim }: AttentionShape, head: number) {
  const shared = Math.floor(head / (heads / keyValueHeads));
  return {
    query: head * headDim,
    key: (heads + shared) * headDim,
    value: (heads + keyValueHeads + shared) * headDim,
  };
}

const dot = (a: Float64Array, b: Float64Array) => a.reduce((sum, value, i) => sum + value * b[i], 0);

const scaleOf = ({ headDim, scale = headDim ** -0.5 }: AttentionShape) => scale;

/**
 * Probabilities [query][key] of one head, 0 where a query does not see a key, and the log-sum-exp of each
 * query; and how much a score changes with what it is before its cap. The queries are the last of the keys' rows.
 */
function probabilities(
  q: Float64Array[],
  k: Float64Array[],
  spans: ArrayLike<number>,
  shape: AttentionShape,
) {
  const { softcap } = shape;
  const lse: number[] = [];
  const slopes: number[][] = [];
  const p = q.map((query, i) => {
    const raw = k.map((key) => dot(query, key) * scaleOf(shape));
    slopes.push(raw.map((score) => softcap ? 1 - Math.tanh(score / softcap) ** 2 : 1));
    const scores = raw.map((score, j) => {
      if (!sees(spans, i, j, i + k.length - q.length)) return -Infinity;
      return softcap ? softcap * Math.tanh(score / softcap) : score;
    });
    const largest = Math.max(...scores);
    lse.push(largest + Math.log(scores.reduce((sum, score) => sum + Math.exp(score - largest), 0)));
    return Float64Array.from(scores, (score) => Math.exp(score - lse[i]));
  });
  return { p, lse, slopes };
}

const rowLength = ({ heads, keyValueHeads, headDim }: AttentionShape) =>
  (heads + 2 * keyValueHeads) * headDim;

/** The rows of one head: `headDim` numbers of each token, from `column` on. */
const rowsOf = (data: ArrayLike<number>, stride: number, column: number, headDim: number) =>
  Array.from(
    { length: data.length / stride },
    (_, token) => Float64Array.from({ length: headDim }, (_, i) => data[token * stride + column + i]),
  );

/**
 * out [queries, heads * headDim] = softmax(Q K^T scale) V and lse [queries, heads] of qkv: for as many of its last
 * rows as there are spans.
 */
export function attention(qkv: ArrayLike<number>, spans: ArrayLike<number>, shape: AttentionShape) {
  const { heads, headDim } = shape;
  const stride = rowLength(shape);
  const tokens = spans.length / 4;
  const out = new Float64Array(tokens * heads * headDim);
  const lse = new Float64Array(tokens * heads);
  for (let head = 0; head < heads; head++) {
    const columns = columnsOf(shape, head);
    const [all, k, v] = [columns.query, columns.key, columns.value].map((c) =>
      rowsOf(qkv, stride, c, headDim)
    );
    const softmax = probabilities(all.slice(-tokens), k, spans, shape);
    for (let i = 0; i < tokens; i++) {
      lse[i * heads + head] = softmax.lse[i];
      for (let c = 0; c < headDim; c++) {
        out[(i * heads + head) * headDim + c] = v.reduce(
          (sum, value, j) => sum + softmax.p[i][j] * value[c],
          0,
        );
      }
    }
  }
  return { out, lse };
}

/**
 * The gradient of qkv. For each head: dV = P^T dOut, dP = dOut V^T, through the softmax dS = P (dP - sum over the row
 * of P dP), and through a cap times 1 - tanh^2; then dQ = dS K scale and dK = dS^T Q scale. Query heads that share a
 * key and value add up. The queries are as many of the last rows as there are spans.
 */
export function attentionBackward(
  qkv: ArrayLike<number>,
  dOut: ArrayLike<number>,
  spans: ArrayLike<number>,
  shape: AttentionShape,
): Float64Array {
  const { heads, headDim } = shape;
  const stride = rowLength(shape);
  const dQkv = new Float64Array(qkv.length);
  const before = qkv.length / stride - spans.length / 4;
  for (let head = 0; head < heads; head++) {
    const columns = columnsOf(shape, head);
    const [all, k, v] = [columns.query, columns.key, columns.value].map((c) =>
      rowsOf(qkv, stride, c, headDim)
    );
    const q = all.slice(before);
    const d = rowsOf(dOut, heads * headDim, head * headDim, headDim);
    const { p, slopes } = probabilities(q, k, spans, shape);
    for (let i = 0; i < q.length; i++) {
      const dP = Float64Array.from(v, (value) => dot(d[i], value));
      const mean = dot(p[i], dP);
      for (let j = 0; j < k.length; j++) {
        const dS = p[i][j] * (dP[j] - mean) * slopes[i][j] * scaleOf(shape);
        for (let c = 0; c < headDim; c++) {
          dQkv[(before + i) * stride + columns.query + c] += dS * k[j][c];
          dQkv[j * stride + columns.key + c] += dS * q[i][c];
          dQkv[j * stride + columns.value + c] += p[i][j] * d[i][c];
        }
      }
    }
  }
  return dQkv;
}
