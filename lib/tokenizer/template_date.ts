import { readDate } from "../text/calendar_date.ts";
import { usesDate } from "./chat_template.ts";

/** What a chat template is told when it asks for the date. */
export interface TemplateDate {
  date: Date;
  /** `2024-07-26`, or with a time `2024-07-26T15:24:13`: in this machine's time zone, as Python's `datetime.now()`. */
  text: string;
}

/** `strftime_now("...")`, and a look whether there is such a function. */
const CALL = /\bstrftime_now(?:\s*\(\s*(?:"([^"\\]*)"|'([^'\\]*)')\s*\)|\s+is\s+(?:not\s+)?defined\b)/g;
/** Formats of days, months and years: of all others the time of the day may be part. */
const OF_THE_DAY = /^(?:[^%]|%-?[aAbBdejmuwUVWyYGCgDFxhnt%])*$/;

/**
 * The moment that a template is told, by the part of it that shows: the day, or the second where a format asks for
 * more or is not written out. undefined for a template that does not ask.
 *
 * It is one moment for all rows of a run: texts with the same date are the same whenever they are made.
 */
export function templateDate(template: string | undefined, moment = new Date()): TemplateDate | undefined {
  if (template === undefined || !usesDate(template)) return undefined;
  const others = template.replace(
    CALL,
    (call, double, single) => OF_THE_DAY.test(double ?? single ?? "") ? "" : call,
  );
  const day = [moment.getFullYear(), moment.getMonth() + 1, moment.getDate()];
  const time = [moment.getHours(), moment.getMinutes(), moment.getSeconds()];
  const two = (values: number[]) => values.map((value) => String(value).padStart(2, "0"));
  const text = others.includes("strftime_now")
    ? `${two(day).join("-")}T${two(time).join(":")}`
    : two(day).join("-");
  return { text, date: readDate(text)! };
}
