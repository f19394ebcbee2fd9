// The words of the console in the languages it speaks. Every key stands in every table; a test sees to it.

export const LANGUAGES = { en: "English", tr: "Türkçe", ko: "한국어" };
const KEPT = "language";
let words = {};
let chosen = "en";
let plurals = new Intl.PluralRules("en");

/** The language now spoken. */
export const language = () => chosen;

/** Speak `wanted`, or what this browser was last spoken to in, or what it asks for. */
export async function speak(wanted) {
  const asked = [wanted, localStorage.getItem(KEPT), ...navigator.languages];
  chosen = asked.map((tag) => tag?.slice(0, 2).toLowerCase()).find((tag) => tag in LANGUAGES) ?? "en";
  const answer = await fetch(`/console/i18n/${chosen}.json`);
  words = await answer.json();
  plurals = new Intl.PluralRules(chosen);
  document.documentElement.lang = chosen;
  if (wanted) localStorage.setItem(KEPT, chosen);
}

/** The words for a key, with `{names}` filled in. */
export function t(key, values = {}) {
  const text = words[key] ?? key;
  return text.replace(/\{(\w+)\}/g, (whole, name) => values[name] ?? whole);
}

/** The words for a number of things: `key_one` or `key_other`, with `{count}` filled in. */
export function tn(key, count, values = {}) {
  return t(`${key}_${plurals.select(count) === "one" ? "one" : "other"}`, { count, ...values });
}

/** The words for a key that the server makes up, or what it said itself. */
export const tell = (family, name) => (has(`${family}.${name}`) ? t(`${family}.${name}`) : String(name).replaceAll("_", " "));

/** Whether there are words for a key. */
export const has = (key) => key in words;
