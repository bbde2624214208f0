/** The adapters of a linear layer (see `Adapter`): what they add to its product, and their gradients. */
import {
  adapterBlock,
  adapterBlockBackward,
  doraMagnitudeBackward,
  doraNorm,
  doraScale,
  dropout,
} from "../../gpu/adapter_operations.ts";
import { linear, linearInputGradient, linearWeightGradient } from "../../gpu/linear.ts";
import type { Tensor } from "../../gpu/memory.ts";
import type { KernelCall } from "../../gpu/program.ts";
import { type Adapter, type ParameterSpec, shapeOf } from "../../parameters/parameter.ts";
import type { BackwardPass } from "../graph.ts";
import type { Machine } from "../machine.ts";

/** A linear layer's matrix with its adapters, and what multiplies the layer's product. */
interface Adapted {
  weight: ParameterSpec;
  adapter: Adapter;
  scale: number;
}

/**
 * What is to be added to x W^T, within scale: the product of s A dropout(x) with B. With magnitudes, rows of W + s B A
 * are longer or shorter by g: then what is added, scale (g s B A + (g - 1) W) dropout(x), is left in y.
 */
export function adapterForward(
  machine: Machine,
  { weight, adapter, scale }: Adapted,
  { x, y }: { x: Tensor; y: Tensor },
): { calls: KernelCall[]; more?: { x: Tensor; weights: Tensor } } {
  const { products, rows, parameters } = machine;
  const { hidden, calls, dropped } = hiddenOf(machine, adapter, x);
  const norm = adapter.magnitude ? normCalls(machine, weight, adapter) : [];
  const block = blockOf(machine, weight, adapter);
  if (!adapter.magnitude) {
    return { calls: [...calls, ...block.calls], more: { x: hidden, weights: block.tensor } };
  }
  const base = machine.shared(`${weight.name} product of the base`, "scratch", shapeOf(weight)[0]);
  return {
    calls: [
      ...calls,
      ...norm,
      ...block.calls,
      ...products.calls("nt", rows, { a: hidden, b: block.tensor, c: y }, { scale }),
      ...linear(products, rows, parameters.pieces(weight), { x: dropped, y: base }, { scale }),
      doraScale(rows, { factors: machine.factors(weight), x: base, y }, true),
    ],
  };
}

/** The gradients of a layer's adapters. */
export interface AdapterBackward {
  /**
   * What the adapters' part of the product adds to the gradient of x: the product of `more`, within scale, or what the
   * calls leave in dX, or add to it.
   */
  input(dX: Tensor, adds: boolean): { calls: KernelCall[]; more?: { dY: Tensor; weights: Tensor } };
  /** Emits those of the gradients of the adapters' parameters, once x is there. */
  parameters(x: Tensor): void;
}

export function adapterBackward(
  pass: BackwardPass,
  { weight, adapter, scale }: Adapted,
  dY: Tensor,
): AdapterBackward {
  const { machine } = pass;
  const { products, rows, parameters } = machine;
  const { a, b, magnitude } = adapter;
  const [width, columns] = shapeOf(weight);
  const factors = magnitude && machine.factors(weight);
  const block = blockOf(machine, weight, adapter);
  const dHidden = pass.scratch(`gradient of ${a.name} product`, shapeOf(a)[0]);
  pass.emit([
    ...block.calls,
    ...products.calls("nn", rows, { a: dY, b: block.tensor, c: dHidden }, { scale: adapter.scale }),
  ]);
  return {
    input(dX, adds) {
      const drops = adapter.dropout > 0;
      if (!drops && !factors) return { calls: [], more: { dY: dHidden, weights: parameters.of(a).weights } };
      const into = drops ? pass.scratch(`gradient of ${a.name} input`, columns) : dX;
      const calls = linearInputGradient(products, rows, parameters.pieces(a), { dY: dHidden, dX: into }, {
        adds: adds && !drops,
        scale,
      });
      if (factors) {
        const change = pass.scratch(`gradient of ${weight.name} scaled`, width);
        calls.push(
          doraScale(rows, { factors, x: dY, y: change }),
          ...linearInputGradient(products, rows, parameters.pieces(weight), { dY: change, dX: into }, {
            adds: true,
            scale,
          }),
        );
      }
      if (drops) calls.push(dropout(rows, dropoutOf(adapter), { x: into, y: dX }, adds));
      return { calls };
    },
    parameters(x) {
      const { hidden, calls, dropped } = hiddenOf(machine, adapter, x);
      pass.emit(calls);
      pass.parameterGradient(
        a,
        (pieces) => linearWeightGradient(products, rows, pieces, { dY: dHidden, x: dropped }, scale),
      );
      if (block.isWhole) {
        pass.parameterGradient(
          b,
          (pieces) => linearWeightGradient(products, rows, pieces, { dY, x: hidden }, scale),
        );
        return;
      }
      const dWide = machine.plan.shared(`gradient of ${b.name} block`, "scratch", [width, shapeOf(a)[0]]);
      pass.emit(products.calls("tn", rows, { a: dY, b: hidden, c: dWide }, { scale }));
      pass.parameterGradient(
        b,
        ([{ gradients }]) => [adapterBlockBackward(rows, adapter, { dWide, dB: gradients, factors })],
      );
      if (!factors) return;
      const base = pass.scratch(`${weight.name} product of the base again`, width);
      pass.emit(linear(products, rows, parameters.pieces(weight), { x: dropped, y: base }, { scale }));
      pass.parameterGradient(magnitude, ([{ gradients: dMagnitude }]) => [
        doraMagnitudeBackward(rows, adapter, {
          ...{ factors, dY, base, dWide, dMagnitude },
          b: parameters.of(b).weights,
        }),
      ]);
    },
  };
}

const dropoutOf = ({ dropout: probability, index: place }: Adapter) => ({ probability, place });

/** s A dropout(x), and dropout(x). */
function hiddenOf(machine: Machine, adapter: Adapter, x: Tensor) {
  const { products, rows, parameters, options } = machine;
  const { a } = adapter;
  const drops = options.training && adapter.dropout > 0;
  const dropped = drops ? machine.shared(`${a.name} input`, "scratch", a.columns) : x;
  const hidden = machine.shared(`${a.name} product`, "scratch", shapeOf(a)[0]);
  const calls = [
    ...drops ? [dropout(rows, dropoutOf(adapter), { x, y: dropped })] : [],
    ...linear(products, rows, parameters.pieces(a), { x: dropped, y: hidden }, { scale: adapter.scale }),
  ];
  return { hidden, dropped, calls };
}

/**
 * The second factors as one matrix for the columns of all first ones: B itself where one module has all rows of the
 * product. It is small beside W, and one product with it serves them all, whatever the columns that they write to.
 */
function blockOf(machine: Machine, weight: ParameterSpec, adapter: Adapter) {
  const { plan, parameters } = machine;
  const [rows] = shapeOf(weight);
  const { weights: b } = parameters.of(adapter.b);
  if (adapter.modules[0].rows === rows && !adapter.magnitude) {
    return { tensor: b, calls: [], isWhole: true };
  }
  const wide = plan.shared(`${adapter.b.name} block`, "scratch", [rows, shapeOf(adapter.a)[0]]);
  const scaled = adapter.magnitude && { factors: machine.factors(weight) };
  return { tensor: wide, calls: [adapterBlock(adapter, { b, wide, ...scaled })], isWhole: false };
}

/** The calls that make the factors of a matrix with magnitudes. */
export function normCalls(machine: Machine, weight: ParameterSpec, adapter: Adapter): KernelCall[] {
  const { parameters } = machine;
  const { a, b, magnitude, scale } = adapter;
  return doraNorm(adapter, parameters.pieces(weight), {
    a: parameters.of(a).weights,
    b: parameters.of(b).weights,
    magnitude: parameters.of(magnitude!).weights,
    factors: machine.factors(weight),
  }, scale);
}
