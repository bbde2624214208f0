/**
 * Which variable a name means: Jinja's idtracking. Every frame (template, loop body, macro, block of set, ...) gives
 * the names that it stores or looks up variables of its own, `level name`, and says how they begin when the frame is
 * entered.
 */
import { TemplateSyntaxError } from "./limits.ts";
import { allWithin, childrenOf, type IfNode, type Node, type Statement } from "./nodes.ts";

/** How a variable begins: given as a parameter, looked up in the context, as another variable, or as nothing. */
export type Load =
  | { kind: "parameter" }
  | { kind: "undefined" }
  | { kind: "resolve"; name: string }
  | { kind: "alias"; variable: string };

export class Symbols {
  readonly level: number;
  #references = new Map<string, string>();
  #loads = new Map<string, Load>();
  #stores = new Set<string>();

  constructor(readonly parent?: Symbols, level?: number) {
    this.level = level ?? (parent ? parent.level + 1 : 0);
  }

  get loads(): ReadonlyMap<string, Load> {
    return this.#loads;
  }

  #define(name: string, load: Load): string {
    const variable = `${this.level} ${name}`;
    this.#references.set(name, variable);
    this.#loads.set(variable, load);
    return variable;
  }

  find(name: string): string | undefined {
    return this.#references.get(name) ?? this.parent?.find(name);
  }

  /** How a variable of this frame or of one around it begins. */
  loadOf(variable: string): Load | undefined {
    return this.#loads.get(variable) ?? this.parent?.loadOf(variable);
  }

  /** The variable of a name. */
  reference(name: string, line: number): string {
    const variable = this.find(name);
    if (variable === undefined) throw new TemplateSyntaxError(`the name ${name} is not known here`, line);
    return variable;
  }

  store(name: string): void {
    this.#stores.add(name);
    if (this.#references.has(name)) return;
    const outer = this.parent?.find(name);
    this.#define(name, outer === undefined ? { kind: "undefined" } : { kind: "alias", variable: outer });
  }

  parameter(name: string): string {
    this.#stores.add(name);
    return this.#define(name, { kind: "parameter" });
  }

  load(name: string): void {
    if (this.find(name) === undefined) this.#define(name, { kind: "resolve", name });
  }

  copy(): Symbols {
    const copy = new Symbols(this.parent, this.level);
    copy.#references = new Map(this.#references);
    copy.#loads = new Map(this.#loads);
    copy.#stores = new Set(this.#stores);
    return copy;
  }

  /**
   * After the branches of an if: what one of them stores begins as it is outside, for where that branch is not taken.
   */
  join(branches: readonly Symbols[]): void {
    const stores = new Set(branches.flatMap((branch) => [...branch.#stores]));
    for (const name of this.#stores) stores.delete(name);
    for (const branch of branches) {
      for (const [name, variable] of branch.#references) this.#references.set(name, variable);
      for (const [variable, load] of branch.#loads) this.#loads.set(variable, load);
      for (const name of branch.#stores) this.#stores.add(name);
    }
    for (const name of stores) {
      const outer = this.parent?.find(name);
      this.#loads.set(
        this.find(name)!,
        outer === undefined ? { kind: "resolve", name } : { kind: "alias", variable: outer },
      );
    }
  }

  /** Names that are stored here or outside, with their variables. */
  stored(): Map<string, string> {
    const found = this.parent?.stored() ?? new Map<string, string>();
    for (const name of this.#stores) found.set(name, this.find(name)!);
    return found;
  }

  /** Notes the names of nodes that belong to this frame. */
  visit(nodes: readonly Node[], asParameters = false): void {
    for (const node of nodes) this.#visit(node, asParameters);
  }

  #visit(node: Node, asParameters: boolean): void {
    switch (node.type) {
      case "Name":
        if (asParameters || node.use === "param") this.parameter(node.name);
        else if (node.use === "store") this.store(node.name);
        else this.load(node.name);
        return;
      case "Namespace":
        return this.load(node.name);
      case "If":
        return this.#visitIf(node);
      case "Macro":
        return this.store(node.name);
      case "Load":
        this.visit([node.template]);
        for (const name of node.names) this.store(name);
        return;
      case "Assign":
        return this.visit([node.value, node.target]);
      case "For":
        return this.visit([node.iterable]);
      case "CallBlock":
        return this.visit(node.call ? [node.call] : []);
      case "FilterBlock":
        return this.visit([node.filter]);
      case "With":
        return this.visit(node.values);
      case "AssignBlock":
        return this.visit([node.target]);
      case "Block":
        return;
      default:
        this.visit(childrenOf(node), asParameters);
    }
  }

  #visitIf(node: IfNode): void {
    this.visit([node.test]);
    const branch = (nodes: readonly Node[]) => {
      const symbols = this.copy();
      symbols.visit(nodes);
      return symbols;
    };
    this.join([branch(node.body), branch(node.elifs), branch(node.otherwise)]);
  }
}

/** Which of `names` are looked up within nodes before they are set there. */
export function undeclared(nodes: readonly Statement[], names: readonly string[]): Set<string> {
  const open = new Set(names);
  const found = new Set<string>();
  const visit = (node: Node): void => {
    if (node.type === "Block") return;
    if (node.type === "Name") {
      if (node.use === "load" && open.has(node.name)) found.add(node.name);
      else open.delete(node.name);
    }
    childrenOf(node).forEach(visit);
  };
  nodes.forEach(visit);
  return found;
}

/** Whether a loop's variable is set within the loop, which Jinja refuses. */
export const setsLoop = (node: Node): boolean => {
  for (const inner of allWithin([node])) {
    if (inner.type === "Name" && inner.use === "store" && inner.name === "loop") return true;
  }
  return false;
};
