/**
 * What a template is made of, with Jinja's own names and order of parts: which names are whose depends on the order.
 */
import type { Value } from "./values.ts";

/** What names stand for that are no variables. */
export const CONSTANTS: Record<string, boolean | null> = {
  true: true,
  True: true,
  false: false,
  False: false,
  none: null,
  None: null,
};

export interface NameNode {
  type: "Name";
  name: string;
  use: "load" | "store" | "param";
  line: number;
}

/** `ns.attribute` as a target of set. */
export interface NamespaceNode {
  type: "Namespace";
  name: string;
  attribute: string;
  line: number;
}

export type Target = NameNode | NamespaceNode | TupleNode;

export interface TupleNode {
  type: "Tuple";
  items: Expression[];
  line: number;
}

export interface Arguments {
  args: Expression[];
  keywords: { name: string; value: Expression }[];
  /** *args and **keywords. */
  restArgs?: Expression;
  restKeywords?: Expression;
}

export type CallNode = Arguments & { type: "Call"; callee: Expression; line: number };
/** `value` is missing where a block is filtered. */
export type FilterNode = Arguments & { type: "Filter"; value?: Expression; name: string; line: number };

export type Expression =
  | NameNode
  | NamespaceNode
  | TupleNode
  | CallNode
  | FilterNode
  | Arguments & { type: "Test"; value: Expression; name: string; line: number }
  | { type: "Constant"; value: Value; line: number }
  | { type: "List"; items: Expression[]; line: number }
  | { type: "Dict"; keys: Expression[]; values: Expression[]; line: number }
  | { type: "Condition"; test: Expression; then: Expression; otherwise?: Expression; line: number }
  | { type: "Binary"; operator: string; left: Expression; right: Expression; line: number }
  | { type: "Unary"; operator: "not" | "-" | "+"; operand: Expression; line: number }
  | { type: "Concat"; items: Expression[]; line: number }
  | { type: "Compare"; first: Expression; rest: { operator: string; operand: Expression }[]; line: number }
  | { type: "Attribute"; of: Expression; name: string; line: number }
  | { type: "Item"; of: Expression; item: Expression; line: number }
  | { type: "Slice"; of: Expression; start?: Expression; stop?: Expression; step?: Expression; line: number };

export interface Signature {
  args: NameNode[];
  defaults: Expression[];
}

export interface ForNode {
  type: "For";
  target: Target;
  iterable: Expression;
  body: Statement[];
  otherwise: Statement[];
  test?: Expression;
  isRecursive: boolean;
  line: number;
}

export interface IfNode {
  type: "If";
  test: Expression;
  body: Statement[];
  elifs: IfNode[];
  otherwise: Statement[];
  line: number;
}

export type MacroNode = Signature & { type: "Macro"; name: string; body: Statement[]; line: number };
/** `call` is missing in {% generation %}, which writes its body. */
export type CallBlockNode = Signature & {
  type: "CallBlock";
  call?: CallNode;
  body: Statement[];
  line: number;
};

export type Statement =
  | { type: "Output"; items: (string | Expression)[]; lines: number[]; line: number }
  | ForNode
  | IfNode
  | MacroNode
  | CallBlockNode
  | { type: "FilterBlock"; filter: FilterNode; body: Statement[]; line: number }
  | { type: "With"; targets: Target[]; values: Expression[]; body: Statement[]; line: number }
  | { type: "Block"; name: string; body: Statement[]; isScoped: boolean; isRequired: boolean; line: number }
  | { type: "Assign"; target: Target; value: Expression; line: number }
  | { type: "AssignBlock"; target: Target; filter?: FilterNode; body: Statement[]; line: number }
  /** import, include and extends: there is no other template. `names` are those that an import would set. */
  | { type: "Load"; what: string; template: Expression; names: string[]; line: number }
  | { type: "Break" | "Continue"; line: number };

export type Node = Expression | Statement;

const inCall = ({ args, keywords, restArgs, restKeywords }: Arguments): (Node | undefined)[] => [
  ...args,
  ...keywords.map(({ value }) => value),
  restArgs,
  restKeywords,
];

/** The nodes directly within a node, in Jinja's order. */
export function childrenOf(node: Node): Node[] {
  return partsOf(node).filter((part) => part !== undefined);
}

function partsOf(node: Node): (Node | undefined)[] {
  switch (node.type) {
    case "Tuple":
    case "List":
    case "Concat":
      return node.items;
    case "Call":
      return [node.callee, ...inCall(node)];
    case "Filter":
    case "Test":
      return [node.value, ...inCall(node)];
    case "Dict":
      return node.keys.flatMap((key, i) => [key, node.values[i]]);
    case "Condition":
      return [node.test, node.then, node.otherwise];
    case "Binary":
      return [node.left, node.right];
    case "Unary":
      return [node.operand];
    case "Compare":
      return [node.first, ...node.rest.map(({ operand }) => operand)];
    case "Attribute":
      return [node.of];
    case "Item":
      return [node.of, node.item];
    case "Slice":
      return [node.of, node.start, node.stop, node.step];
    case "Output":
      return node.items.filter((item) => typeof item !== "string");
    case "For":
      return [node.target, node.iterable, ...node.body, ...node.otherwise, node.test];
    case "If":
      return [node.test, ...node.body, ...node.elifs, ...node.otherwise];
    case "Macro":
      return [...node.args, ...node.defaults, ...node.body];
    case "CallBlock":
      return [node.call, ...node.args, ...node.defaults, ...node.body];
    case "FilterBlock":
      return [...node.body, node.filter];
    case "With":
      return [...node.targets, ...node.values, ...node.body];
    case "Block":
      return node.body;
    case "Assign":
      return [node.target, node.value];
    case "AssignBlock":
      return [node.target, node.filter, ...node.body];
    case "Load":
      return [node.template];
    default:
      return [];
  }
}

/** Every node within nodes, themselves too. */
export function* allWithin(nodes: readonly Node[]): Generator<Node> {
  for (const node of nodes) {
    yield node;
    yield* allWithin(childrenOf(node));
  }
}
