/** Attention over a packed row of tokens in float64, with whole matrices of tokens by tokens. */
import type { AttentionShape } from "../../kernels/attention.ts";

/** A token sees the keys from the span's first number up to its second, and from its third to itself. */
export const sees = (spans: ArrayLike<number>, query: number, key: number): boolean =>
  (spans[4 * query] <= key && key < spans[4 * query + 1]) || (spans[4 * query + 2] <= key && key <= query);

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

/**
 * Probabilities [query][key] of one head, 0 where a query does not see a key, and the log-sum-exp of each
 * query.
 */
function probabilities(q: Float64Array[], k: Float64Array[], spans: ArrayLike<number>) {
  const scale = q[0].length ** -0.5;
  const lse: number[] = [];
  const p = q.map((query, i) => {
    const scores = k.map((key, j) => sees(spans, i, j) ? dot(query, key) * scale : -Infinity);
    const largest = Math.max(...scores);
    lse.push(largest + Math.log(scores.reduce((sum, score) => sum + Math.exp(score - largest), 0)));
    return Float64Array.from(scores, (score) => Math.exp(score - lse[i]));
  });
  return { p, lse };
}

const rowLength = ({ heads, keyValueHeads, headDim }: AttentionShape) =>
  (heads + 2 * keyValueHeads) * headDim;

/** The rows of one head: `headDim` numbers of each token, from `column` on. */
const rowsOf = (data: ArrayLike<number>, stride: number, column: number, headDim: number) =>
  Array.from(
    { length: data.length / stride },
    (_, token) => Float64Array.from({ length: headDim }, (_, i) => data[token * stride + column + i]),
  );

/** out [tokens, heads * headDim] = softmax(Q K^T / sqrt(headDim)) V and lse [tokens, heads] of qkv. */
export function attention(qkv: ArrayLike<number>, spans: ArrayLike<number>, shape: AttentionShape) {
  const { heads, headDim } = shape;
  const stride = rowLength(shape);
  const tokens = qkv.length / stride;
  const out = new Float64Array(tokens * heads * headDim);
  const lse = new Float64Array(tokens * heads);
  for (let head = 0; head < heads; head++) {
    const columns = columnsOf(shape, head);
    const [q, k, v] = [columns.query, columns.key, columns.value].map((c) => rowsOf(qkv, stride, c, headDim));
    const softmax = probabilities(q, k, spans);
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
 * The gradient of qkv. For each head: dV = P^T dOut, dP = dOut V^T, and through the softmax dS = P (dP - sum
 * over the row of P dP); then dQ = dS K / sqrt(headDim) and dK = dS^T Q / sqrt(headDim). Query heads that
 * share a key and value add up.
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
  for (let head = 0; head < heads; head++) {
    const columns = columnsOf(shape, head);
    const [q, k, v] = [columns.query, columns.key, columns.value].map((c) => rowsOf(qkv, stride, c, headDim));
    const d = rowsOf(dOut, heads * headDim, head * headDim, headDim);
    const { p } = probabilities(q, k, spans);
    for (let i = 0; i < q.length; i++) {
      const dP = Float64Array.from(v, (value) => dot(d[i], value));
      const mean = dot(p[i], dP);
      for (let j = 0; j < k.length; j++) {
        const dS = p[i][j] * (dP[j] - mean) * headDim ** -0.5;
        for (let c = 0; c < headDim; c++) {
          dQkv[i * stride + columns.query + c] += dS * k[j][c];
          dQkv[j * stride + columns.key + c] += dS * q[i][c];
          dQkv[j * stride + columns.value + c] += p[i][j] * d[i][c];
        }
      }
    }
  }
  return dQkv;
}
