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

/**
 * A logger that shows messages of level `least` and above; all but those of `info` say their level first.
 *
 * @param write takes the text with its line end; the command line gives stderr.
 */
export function createLogger(least: LogLevel, write: (text: string) => void): Logger {
  const at = (level: LogLevel) => (message: string) => {
    if (isShown(level, least)) write(`${level === "info" ? "" : `${level}: `}${message}\n`);
  };
  return { debug: at("debug"), info: at("info"), warning: at("warning"), error: at("error") };
}
