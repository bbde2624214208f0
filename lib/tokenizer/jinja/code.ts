import { Symbols } from "./scopes.ts";

/**
 * Variables of one function of the code that Jinja makes: the template, a block, a macro, a recursive loop, a loop's
 * filter.
 */
export class Unit {
  readonly slots = new Map<string, number>();
  constructor(readonly level: number, readonly outer?: Unit) {}
}

/** What is known of the place in the template that is compiled: Jinja's Frame. */
export class Code {
  isTop = false;
  /** In a branch of an if, where unknown filters are no error yet. */
  isSoft = false;
  /** In the default of a macro's parameter, where those that follow have no value yet. */
  isDefault = false;
  /** Loops around it in its unit. */
  loops = 0;
  /** Expressions compiled so far in a statement, for the steps that it takes. */
  weight = 0;

  constructor(readonly symbols: Symbols, readonly unit: Unit) {}

  slotOf(variable: string): { hops: number; index: number } {
    const level = parseInt(variable);
    let unit = this.unit;
    let hops = 0;
    for (; level < unit.level; hops++) unit = unit.outer!;
    let index = unit.slots.get(variable);
    if (index === undefined) unit.slots.set(variable, index = unit.slots.size);
    return { hops, index };
  }

  inner(): Code {
    const code = new Code(new Symbols(this.symbols), this.unit);
    code.loops = this.loops;
    return code;
  }

  soft(): Code {
    const code = new Code(this.symbols, this.unit);
    Object.assign(code, {
      isTop: this.isTop,
      isSoft: true,
      isDefault: this.isDefault,
      loops: this.loops,
      weight: this.weight,
    });
    return code;
  }

  /** The inside of a function of its own. */
  function(): Code {
    const symbols = new Symbols(this.symbols);
    return new Code(symbols, new Unit(symbols.level, this.unit));
  }
}
