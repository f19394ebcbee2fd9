// Money, times and lengths as people read them, in their language and time zone.

import { language, t, tell, tn } from "./i18n.js";
import { session } from "./session.js";

export const zone = () => session.me?.zone || Intl.DateTimeFormat().resolvedOptions().timeZone;

/** Micro-dollars as dollars. */
export function money(micros) {
  return new Intl.NumberFormat(language(), { style: "currency", currency: "USD" }).format((micros ?? 0) / 1e6);
}

/** What a call cost; words while that is being settled. */
export const cost = (call) => (call.cost_usd_micros === null ? t("call.settling") : money(call.cost_usd_micros));

/** How a call stands or ended, in a sentence. The server's own knows most; in other languages ours is understood. */
export function fate(call) {
  if (language() === "en" && call.message && call.ended_at) return call.message;
  return call.ended_reason ? tell("ended", call.ended_reason) : tell("state", call.state);
}

const shown = (options) => (iso) =>
  iso ? new Intl.DateTimeFormat(language(), { timeZone: zone(), ...options }).format(new Date(iso)) : "";

export const when = shown({ dateStyle: "medium", timeStyle: "short" });
export const day = shown({ dateStyle: "medium" });
export const dayLong = shown({ weekday: "long", day: "numeric", month: "long" });
export const clock = shown({ timeStyle: "short" });
export const clockExact = shown({ timeStyle: "medium" });

/** A calendar date that belongs to no zone, such as 2026-11-22. */
export function date(text, options = { dateStyle: "medium" }) {
  return new Intl.DateTimeFormat(language(), { timeZone: "UTC", ...options }).format(new Date(`${text}T00:00:00Z`));
}

/** Seconds as 3:05. */
export function length(seconds) {
  const whole = Math.max(0, Math.floor(seconds ?? 0));
  return `${Math.floor(whole / 60)}:${String(whole % 60).padStart(2, "0")}`;
}

/** A number of minutes in words. */
export const minutes = (count) => tn("minutes", count, { count: new Intl.NumberFormat(language()).format(count) });

/** Seconds in words, for those who hear them. */
export const spokenLength = (seconds) =>
  t("length.spoken", { minutes: Math.floor((seconds ?? 0) / 60), seconds: Math.floor((seconds ?? 0) % 60) });

const STEPS = [["day", 86400], ["hour", 3600], ["minute", 60]];

/** How far off a time is: in 2 hours, yesterday. */
export function away(iso) {
  const seconds = (new Date(iso) - Date.now()) / 1000;
  const [unit, size] = STEPS.find(([, long]) => Math.abs(seconds) >= long) ?? ["minute", 60];
  return new Intl.RelativeTimeFormat(language(), { numeric: "auto" }).format(Math.round(seconds / size), unit);
}

/** A steady colour for a persona. */
export function hue(id) {
  let sum = 0;
  for (const letter of id) sum = (sum * 31 + letter.codePointAt(0)) % 360;
  return String(sum);
}

/** A language's own name for itself, or for `tag`. */
export function languageName(tag) {
  try {
    return new Intl.DisplayNames([language()], { type: "language" }).of(tag);
  } catch {
    return tag;
  }
}

/** The first letter that stands for a name. */
export const monogram = (name) => [...(name || "?").trim()][0]?.toLocaleUpperCase(language()) ?? "?";
