/** datetime.strftime() as the C library of Linux writes it, in the locale C. */
const DAYS = ["Sunday", "Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday"];
const MONTHS = [
  "January",
  "February",
  "March",
  "April",
  "May",
  "June",
  "July",
  "August",
  "September",
  "October",
  "November",
  "December",
];
const DAY = 86_400_000;

/** A directive: its own padding, the digits it is padded to, and its text; or a format that it stands for. */
type Directive = { pad: "0" | " "; width: number; value: number } | { text: string } | { format: string };

/** Widths and flags are of the directives alone; what is no directive stays as it is. */
export function strftime(date: Date, format: string): string {
  return format.replace(
    /%(?:([zZf])|([_0^#-]*)(\d*)([EO]?)([^]))/g,
    (whole, own: string | undefined, flags = "", digits = "", _modifier = "", letter = "") => {
      if (own !== undefined) {
        return own === "f" ? String(date.getMilliseconds()).padStart(3, "0") + "000" : "";
      }
      const directive = directiveOf(date, letter);
      if (!directive || digits.length > 3) return whole;
      const flag = [...flags as string].findLast((flag) => "_0-".includes(flag));
      let text: string;
      let pad = " ";
      let width = 0;
      if ("value" in directive) {
        text = String(directive.value);
        ({ pad, width } = directive);
      } else text = "format" in directive ? strftime(date, directive.format) : directive.text;
      if (flag === "_") pad = " ";
      if (flag === "0") pad = "0";
      if (flag === "-") width = 0;
      if (flags.includes("^")) text = text.toUpperCase();
      else if (flags.includes("#")) {
        text = letter === "p" || letter === "Z" ? text.toLowerCase() : text.toUpperCase();
      }
      return text.padStart(digits === "" ? width : Number(digits), pad);
    },
  );
}

function directiveOf(date: Date, letter: string): Directive | undefined {
  const two = (value: number): Directive => ({ pad: "0", width: 2, value });
  const spaced = (value: number): Directive => ({ pad: " ", width: 2, value });
  const plain = (value: number): Directive => ({ pad: "0", width: 1, value });
  const [year, month, day, hour] = [date.getFullYear(), date.getMonth(), date.getDate(), date.getHours()];
  const weekday = date.getDay();
  const dayOfYear = Math.round((Date.UTC(year, month, day) - Date.UTC(year, 0, 1)) / DAY);
  const hour12 = hour % 12 || 12;
  switch (letter) {
    case "a":
      return { text: DAYS[weekday].slice(0, 3) };
    case "A":
      return { text: DAYS[weekday] };
    case "b":
    case "h":
      return { text: MONTHS[month].slice(0, 3) };
    case "B":
      return { text: MONTHS[month] };
    case "c":
      return { format: "%a %b %e %H:%M:%S %Y" };
    case "C":
      return two(Math.floor(year / 100));
    case "d":
      return two(day);
    case "D":
    case "x":
      return { format: "%m/%d/%y" };
    case "e":
      return spaced(day);
    case "F":
      return { format: "%Y-%m-%d" };
    case "g":
      return two(isoWeek(date).year % 100);
    case "G":
      return plain(isoWeek(date).year);
    case "H":
      return two(hour);
    case "I":
      return two(hour12);
    case "j":
      return { pad: "0", width: 3, value: dayOfYear + 1 };
    case "k":
      return spaced(hour);
    case "l":
      return spaced(hour12);
    case "m":
      return two(month + 1);
    case "M":
      return two(date.getMinutes());
    case "n":
      return { text: "\n" };
    case "p":
      return { text: hour < 12 ? "AM" : "PM" };
    case "P":
      return { text: hour < 12 ? "am" : "pm" };
    case "r":
      return { format: "%I:%M:%S %p" };
    case "R":
      return { format: "%H:%M" };
    case "s":
      return plain(Math.floor(date.getTime() / 1000));
    case "S":
      return two(date.getSeconds());
    case "t":
      return { text: "\t" };
    case "T":
    case "X":
      return { format: "%H:%M:%S" };
    case "u":
      return plain(weekday || 7);
    case "U":
      return two(Math.floor((dayOfYear + 7 - weekday) / 7));
    case "V":
      return two(isoWeek(date).week);
    case "w":
      return plain(weekday);
    case "W":
      return two(Math.floor((dayOfYear + 7 - (weekday + 6) % 7) / 7));
    case "y":
      return two(year % 100);
    case "Y":
      return plain(year);
    case "%":
      return { text: "%" };
  }
  return undefined;
}

/** The week of ISO 8601, and the year that it is of: that of its Thursday. */
function isoWeek(date: Date): { year: number; week: number } {
  const thursday = new Date(
    Date.UTC(date.getFullYear(), date.getMonth(), date.getDate() + 4 - (date.getDay() || 7)),
  );
  const year = thursday.getUTCFullYear();
  return { year, week: Math.floor((thursday.getTime() - Date.UTC(year, 0, 1)) / (7 * DAY)) + 1 };
}
