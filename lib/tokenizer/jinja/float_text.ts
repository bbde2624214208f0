/** How floats are written: the shortest digits that repr() gives, and the rounded ones of printf. */
import { countSteps } from "./limits.ts";

/** repr() of a float. */
export function reprFloat(value: number): string {
  if (Number.isNaN(value)) return "nan";
  if (!Number.isFinite(value)) return value < 0 ? "-inf" : "inf";
  if (value === 0) return Object.is(value, -0) ? "-0.0" : "0.0";
  const [mantissa, power] = value.toExponential().split("e");
  const exponent = Number(power);
  if (exponent < -4 || exponent >= 16) return `${mantissa}e${exponentText(exponent)}`;
  const sign = mantissa.startsWith("-") ? "-" : "";
  const digits = mantissa.replace(/[-.]/g, "");
  if (exponent < 0) return `${sign}0.${"0".repeat(-exponent - 1)}${digits}`;
  const whole = digits.slice(0, exponent + 1).padEnd(exponent + 1, "0");
  return `${sign}${whole}.${digits.slice(exponent + 1) || "0"}`;
}

export const exponentText = (exponent: number): string =>
  `${exponent < 0 ? "-" : "+"}${String(Math.abs(exponent)).padStart(2, "0")}`;

/** All decimal digits of a finite float above 0: 0.d1d2d3... times 10 to the power of `exponent`. */
function exactDigits(value: number): { digits: string; exponent: number } {
  const bits = new DataView(new ArrayBuffer(8));
  bits.setFloat64(0, value);
  const raw = bits.getBigUint64(0);
  const field = Number(raw >> 52n & 0x7ffn);
  const mantissa = raw & 0xfffffffffffffn | (field > 0 ? 1n << 52n : 0n);
  const power = Math.max(field, 1) - 1075;
  // m * 2^-k is m * 5^k / 10^k.
  const all = power >= 0 ? mantissa << BigInt(power) : mantissa * 5n ** BigInt(-power);
  const text = String(all);
  return { digits: text.replace(/0+$/, ""), exponent: text.length - Math.max(-power, 0) };
}

/** The first `count` digits of a float, rounded half to even as C's printf does; the exponent may grow by one. */
export function roundedDigits(
  value: number,
  count: (exponent: number) => number,
): { digits: string; exponent: number } {
  countSteps(64);
  if (value === 0) return { digits: "", exponent: 0 };
  const { digits, exponent } = exactDigits(value);
  const kept = count(exponent);
  if (kept >= digits.length) return { digits, exponent };
  if (kept < 0) return { digits: "", exponent };
  const [head, tail] = [digits.slice(0, kept), digits.slice(kept)];
  const isUp = tail[0] > "5" || tail[0] === "5" && (tail.length > 1 || Number(head.at(-1) ?? 0) % 2 === 1);
  if (!isUp) return { digits: head, exponent };
  const up = String(BigInt(head || "0") + 1n).padStart(kept, "0");
  return up.length > kept
    ? { digits: up.slice(0, kept) || "1", exponent: exponent + 1 }
    : { digits: up, exponent };
}

/** A finite float without its sign as %.{places}f writes it. */
export function fixed(value: number, places: number): string {
  const { digits, exponent } = roundedDigits(value, (exponent) => exponent + places);
  const whole = exponent > 0 ? digits.slice(0, exponent).padEnd(exponent, "0") : "0";
  const part = exponent > 0 ? digits.slice(exponent) : digits === "" ? "" : "0".repeat(-exponent) + digits;
  return places > 0 ? `${whole}.${part.padEnd(places, "0").slice(0, places)}` : whole;
}

/** A finite float without its sign as %.{places}e writes it. */
export function exponential(value: number, places: number): { text: string; exponent: number } {
  const { digits, exponent } = roundedDigits(value, () => places + 1);
  const all = digits.padEnd(places + 1, "0");
  const power = value === 0 ? 0 : exponent - 1;
  const text = `${all[0]}${places > 0 ? `.${all.slice(1, places + 1)}` : ""}e${exponentText(power)}`;
  return { text, exponent: power };
}

/** A finite float without its sign as %.{precision}g writes it; `keepsZeros` is the flag #. */
export function general(value: number, precision: number, keepsZeros: boolean): string {
  const significant = precision === 0 ? 1 : precision;
  const { text, exponent } = exponential(value, significant - 1);
  const trim = (digits: string) =>
    keepsZeros || !digits.includes(".") ? digits : digits.replace(/0+$/, "").replace(/\.$/, "");
  if (exponent < -4 || exponent >= significant) {
    const [mantissa, power] = text.split("e");
    return `${trim(mantissa)}e${power}`;
  }
  return trim(fixed(value, significant - 1 - exponent));
}
