/**
 * The moment, in this machine's time zone, of `2024-07-26` or `2024-07-26T15:24:13`; undefined for what is none of
 * the calendar's.
 */
export function readDate(text: string): Date | undefined {
  const match = /^([1-9]\d{3})-(\d\d)-(\d\d)(?:T(\d\d):(\d\d):(\d\d))?$/.exec(text);
  if (!match) return undefined;
  const [year, month, day, hours = 0, minutes = 0, seconds = 0] = match.slice(1).map((part) =>
    Number(part ?? 0)
  );
  const calendar = new Date(Date.UTC(year, month - 1, day));
  const isThere = calendar.getUTCMonth() === month - 1 && calendar.getUTCDate() === day;
  if (!isThere || hours > 23 || minutes > 59 || seconds > 59) return undefined;
  return new Date(year, month - 1, day, hours, minutes, seconds);
}
