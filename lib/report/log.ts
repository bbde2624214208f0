import type { TrainConfig } from "../config/schema.ts";

/** The levels of messages, from the least to the most urgent. */
export type LogLevel = TrainConfig["logLevel"];

const LEVELS: readonly LogLevel[] = ["debug", "info", "warning", "error"];

/** Writes messages of each level, a line each. */
export type Logger = Readonly<Record<LogLevel, (message: string) => void>>;

/** Whether messages of `level` are shown where `least` is the least level shown. */
export function isShown(level: LogLevel, least: LogLevel): boolean {
  return LEVELS.indexOf(level) >= LEVELS.indexOf(least);
}

/** Control characters and those that turn the direction or the line of a text. */
export const HOSTILE = /[\p{Cc}\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]/gu;

/**
 * Text of which a terminal follows nothing: control characters of a file or of a server's answer are written out,
 * line ends stay.
 */
export function printable(text: string): string {
  return text.replace(
    HOSTILE,
    (character) =>
      character === "\n" || character === "\t"
        ? character
        : `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`,
  );
}

/**
 * A logger that shows messages of level `least` and above; all but those of `info` say their level first.
 *
 * @param write takes the text with its line end; the command line gives stderr.
 */
export function createLogger(least: LogLevel, write: (text: string) => void): Logger {
  const at = (level: LogLevel) => (message: string) => {
    if (isShown(level, least)) write(`${level === "info" ? "" : `${level}: `}${printable(message)}\n`);
  };
  return { debug: at("debug"), info: at("info"), warning: at("warning"), error: at("error") };
}
