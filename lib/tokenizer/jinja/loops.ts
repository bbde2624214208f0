/** Makes functions of loops. */
import { Code } from "./code.ts";
import { compile } from "./expressions.ts";
import { countSteps, TemplateSyntaxError } from "./limits.ts";
import { allWithin, type ForNode } from "./nodes.ts";
import { type Frame, Loop, MISSING, Output } from "./runtime.ts";
import { setsLoop, Symbols, undeclared } from "./scopes.ts";
import { Generator as PythonGenerator, isTrue, iterate, type Value } from "./values.ts";
import { BREAK, type CompileBody, type Execute, type Signal } from "./execute.ts";
import { assigner, enterer, leaver, reader } from "./variables.ts";

/** Loops that CPython lets be within each other in one function. */
const MOST_LOOPS = 20;

/** The items of a loop that pass its `if`, one at a time, as the body may change what the test asks for. */
function loopFilter(node: ForNode, code: Code): (frame: Frame, items: Value) => PythonGenerator {
  const inner = code.function();
  inner.symbols.visit([node.target], true);
  inner.symbols.visit([node.test!]);
  const enter = enterer(inner);
  const assign = assigner(node.target, inner);
  const read = reader(node.target, inner);
  const test = compile(node.test!, inner);
  const hops = node.isRecursive ? 1 : 0;
  return (frame, items) =>
    new PythonGenerator((function* () {
      // A recursive loop asks from within its own function, and the filter is made outside.
      const own: Frame = {
        slots: [],
        outer: hops === 1 ? frame.outer : frame,
        out: frame.out,
        context: frame.context,
      };
      enter(own);
      const iterator = iterate(items);
      for (let next = iterator.next(); !next.done; next = iterator.next()) {
        countSteps(inner.weight);
        assign(own, next.value);
        if (isTrue(test(own))) yield read(own);
      }
    })());
}

export function compileFor(node: ForNode, code: Code, compileBody: CompileBody): Execute {
  if (setsLoop(node)) {
    throw new TemplateSyntaxError("Can't assign to special loop variable in for-loop target", node.line);
  }
  const around = node.isRecursive ? code.function() : code.inner();
  const loopCode = around;
  if (++loopCode.loops > MOST_LOOPS) {
    throw new TemplateSyntaxError("too many loops within each other", node.line);
  }
  const isExtended = node.isRecursive || undeclared(node.body, ["loop"]).has("loop") ||
    [...allWithin([node])].some((inner) => inner.type === "Block" && inner.isScoped);
  const loopSlot = isExtended ? loopCode.slotOf(loopCode.symbols.parameter("loop")).index : undefined;
  loopCode.symbols.visit([node.target], true);
  loopCode.symbols.visit(node.body);

  const elseCode = new Code(new Symbols(code.symbols), loopCode.unit);
  elseCode.loops = loopCode.loops - 1;
  elseCode.symbols.visit(node.otherwise);

  const filter = node.test && loopFilter(node, code);
  const assign = assigner(node.target, loopCode);
  const enter = enterer(loopCode);
  const body = compileBody(node.body, loopCode);
  const leave = leaver(loopCode);
  const enterElse = enterer(elseCode);
  const otherwise = node.otherwise.length > 0 ? compileBody(node.otherwise, elseCode) : undefined;
  const iterable = compile(node.iterable, code);

  const round = (frame: Frame, item: Value): Signal => {
    countSteps(1);
    assign(frame, item);
    enter(frame);
    return body(frame);
  };
  const go = (frame: Frame, given: Value, loopOf: (items: Value) => Loop | undefined): Signal => {
    // Python's loop variable is empty until the first round.
    if (loopSlot !== undefined) frame.slots[loopSlot] = MISSING;
    const items = filter ? filter(frame, given) : given;
    const loop = loopOf(items);
    let isEmpty = true;
    if (loop) {
      for (let item = loop.next(); item !== undefined; item = loop.next()) {
        frame.slots[loopSlot!] = loop;
        const signal = round(frame, item);
        if (signal === BREAK) break;
        if (signal === 0) isEmpty = false;
      }
    } else {
      const iterator = iterate(items);
      for (let next = iterator.next(); !next.done; next = iterator.next()) {
        const signal = round(frame, next.value);
        if (signal === BREAK) break;
        if (signal === 0) isEmpty = false;
      }
    }
    leave(frame);
    if (!isEmpty || !otherwise) return 0;
    enterElse(frame);
    return otherwise(frame);
  };
  if (!node.isRecursive) {
    const loopOf = isExtended ? (items: Value) => new Loop(items) : () => undefined;
    return (frame) => go(frame, iterable(frame), loopOf);
  }
  return (frame) => {
    const render = (items: Value, depth: number): string => {
      const own: Frame = { slots: [], outer: frame, out: new Output(), context: frame.context };
      go(own, items, (items) => new Loop(items, render, depth));
      return own.out.text;
    };
    frame.out.write(render(iterable(frame), 0));
    return 0;
  };
}
