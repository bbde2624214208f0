/** The adapters of a linear layer (see `Adapter`): what they add to its product, and their gradients. */
import {
  adapterBlock,
  adapterBlockBackward,
  columns,
  doraMagnitudeBackward,
  doraNorm,
  doraScale,
  type Dropout,
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
 * What is to be added to x W^T, within scale: the product of s A dropout(x), where each module drops for itself, with
 * B. With magnitudes, rows of W + s B A are longer or shorter by g: then what is added, scale (g s B A + (g - 1) W)
 * dropout(x), is left in y, with one dropout for all modules, since each of its own would take a product with W.
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
  const [width, inputs] = shapeOf(weight);
  const masks = masksOf(adapter);
  const drops = masks.length > 0;
  const factors = magnitude && machine.factors(weight);
  const block = blockOf(machine, weight, adapter);
  const dHidden = pass.scratch(`gradient of ${a.name} product`, shapeOf(a)[0]);
  pass.emit([
    ...block.calls,
    ...products.calls("nn", rows, { a: dY, b: block.tensor, c: dHidden }, { scale: adapter.scale }),
  ]);
  return {
    input(dX, adds) {
      if (!drops && !factors) return { calls: [], more: { dY: dHidden, weights: parameters.of(a).weights } };
      const into = drops ? pass.scratch(`gradient of ${a.name} input`, inputs) : dX;
      const ofHidden = (dY: Tensor) =>
        linearInputGradient(products, rows, parameters.pieces(a), { dY, dX: into }, {
          adds: adds && !drops,
          scale,
        });
      if (masks.length > 1) {
        const calls = masks.flatMap((mask, i) => {
          const own = ownColumns(machine, adapter, i, dHidden);
          return [
            ...own.calls,
            ...ofHidden(own.tensor),
            dropout(rows, mask, { x: into, y: dX }, adds || i > 0),
          ];
        });
        return { calls };
      }
      const calls = ofHidden(dHidden);
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
      if (drops) calls.push(dropout(rows, masks[0], { x: into, y: dX }, adds));
      return { calls };
    },
    parameters(x) {
      const pieces = parameters.trained(a);
      const { hidden, calls, dropped } = hiddenOf(machine, adapter, x, (dropped, i) => {
        const own = masks.length > 1
          ? ownColumns(machine, adapter, i, dHidden)
          : { calls: [], tensor: dHidden };
        const t = { dY: own.tensor, x: dropped };
        return [...own.calls, ...linearWeightGradient(products, rows, pieces, t, { adds: i > 0, scale })];
      });
      pass.emit(calls);
      if (block.isWhole) {
        pass.parameterGradient(
          b,
          (pieces) => linearWeightGradient(products, rows, pieces, { dY, x: hidden }, { scale }),
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

/** What each module drops, if anything; of DoRA all together. */
const masksOf = ({ dropout: probability, firstPlace, modules, magnitude }: Adapter): Dropout[] =>
  probability === 0
    ? []
    : (magnitude ? modules.slice(0, 1) : modules).map((_, i) => ({ probability, place: firstPlace + i }));

/** The columns of one module's factors in a tensor of all, which elsewhere is 0. */
function ownColumns(machine: Machine, adapter: Adapter, module: number, x: Tensor) {
  const tensor = machine.shared(`${adapter.a.name} product of one`, "scratch", shapeOf(adapter.a)[0]);
  return { tensor, calls: [columns(machine.rows, adapter, module, { x, y: tensor })] };
}

/**
 * s A dropout(x), and dropout(x), where modules drop for themselves the last one's.
 * @param then what else is made of dropout(x), of each module's, by its place.
 */
function hiddenOf(
  machine: Machine,
  adapter: Adapter,
  x: Tensor,
  then: (dropped: Tensor, module: number) => KernelCall[] = () => [],
) {
  const { products, rows, parameters, options } = machine;
  const { a } = adapter;
  const width = shapeOf(a)[0];
  const hidden = machine.shared(`${a.name} product`, "scratch", width);
  const product = (x: Tensor, y: Tensor) =>
    linear(products, rows, parameters.pieces(a), { x, y }, { scale: adapter.scale });
  const masks = options.training ? masksOf(adapter) : [];
  if (masks.length === 0) return { hidden, dropped: x, calls: [...product(x, hidden), ...then(x, 0)] };
  const dropped = machine.shared(`${a.name} input`, "scratch", a.columns);
  const calls = masks.flatMap((mask, i) => {
    const drop = dropout(rows, mask, { x, y: dropped });
    if (i === 0) return [drop, ...product(dropped, hidden), ...then(dropped, i)];
    const all = machine.shared(`${a.name} product of one`, "scratch", width);
    const own = columns(rows, adapter, i, { x: all, y: hidden }, true);
    return [drop, ...product(dropped, all), own, ...then(dropped, i)];
  });
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
