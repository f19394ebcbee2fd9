// What went wrong, in plain words, and the way on.

import { Unreachable } from "./api.js";
import { h } from "./dom.js";
import { has, language, t } from "./i18n.js";

// Where a person goes to mend what stands in the way.
const WAY_ON = {
  "no-payment-method": ["#/payments", "next.add_card"],
  "card-declined": ["#/payments", "next.other_card"],
  "card-needs-action": ["#/payments", "next.other_card"],
  "spend-cap": ["#/payments", "next.see_payments"],
  "number-not-verified": ["#/welcome", "next.verify_number"],
  "number-not-yours": ["#/settings", "next.see_numbers"],
  "no-number": ["#/welcome", "next.verify_number"],
  "opted-out": ["#/settings", "next.allow_calls"],
  "no-consent": ["#/welcome", "next.consent"],
  "not-adult": ["#/welcome", "next.adult"],
  "already-on-call": ["#/", "next.see_call"],
  "persona-limit": ["#/personas", "next.see_personas"],
};

/** One or two sentences for a person: what happened and what to do. */
export function sentence(error) {
  if (error instanceof Unreachable) return t("problem.unreachable");
  const known = `problem.${error.kind ?? "unknown"}`;
  if (error.retryAfter && error.kind === "too-many-requests") return t("problem.slow_down", { seconds: error.retryAfter });
  if (error.kind === "invalid-field" && error.problem?.rule) return language() === "en" ? `${error.problem.rule}.` : t(known);
  // The server's sentence knows more than ours; in another language than its own, ours is better understood.
  if (error.detail && (language() === "en" || !has(known))) return error.detail;
  if (has(known)) return t(known);
  if (!error.kind) console.error(error); // a fault of the page itself
  return t(error.status >= 500 ? "problem.internal" : "problem.unknown");
}

/** The link that mends it, or nothing. */
export function wayOn(error) {
  const found = WAY_ON[error.kind];
  return found ? h("a", { href: found[0], class: "way-on" }, t(found[1])) : null;
}

/** A notice of an error; screen readers say it at once. */
export function notice(error) {
  return h("div", { class: "notice bad", role: "alert" }, h("p", {}, sentence(error)), wayOn(error));
}

/** What stands in a view's place when it cannot be shown. */
export function failed(error, again) {
  const title = h("h1", { tabindex: "-1" }, t(error.status === 404 ? "failed.missing" : "failed.title"));
  const retry = h("button", { type: "button", class: "primary", onclick: again }, t("failed.again"));
  return h("div", { class: "narrow" }, title, notice(error), retry);
}
