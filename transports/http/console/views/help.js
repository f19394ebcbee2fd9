// Help: somebody to talk to in a crisis, how calls are stopped, and what becomes of a person's data.

import { get } from "../api.js";
import { h } from "../dom.js";
import { language, t } from "../i18n.js";
import { table } from "../plot.js";

const COUNTRIES = { en: "US", tr: "TR", ko: "KR" };

/** For everybody, signed in or not. */
export async function help({ query }) {
  const country = query.get("country") ?? region() ?? COUNTRIES[language()];
  const [lines, others, keeping] = await Promise.all([
    get("/v1/helplines", { country }).catch(() => ({ items: [] })),
    get("/v1/subprocessors").catch(() => ({ items: [] })),
    get("/v1/retention").catch(() => ({ items: [] }))]);
  return h("div", { class: "narrow" }, h("h1", {}, t("help.title")),
    h("section", { class: "helplines", "aria-labelledby": "crisis" }, h("h2", { id: "crisis" }, t("help.crisis")), h("p", {}, t("help.crisis_text")),
      h("ul", { class: "rows" }, rows(lines).map(helpline))),
    h("section", { "aria-labelledby": "stopping" }, h("h2", { id: "stopping" }, t("help.stop")), h("p", {}, t("help.stop_text"))),
    h("section", { "aria-labelledby": "ai" }, h("h2", { id: "ai" }, t("help.ai")), h("p", {}, t("help.ai_text"))),
    policy("retention", rows(keeping), ["help.data", "help.kept"], (row) => [row.data, row.kept]),
    policy("subprocessors", rows(others), ["help.who", "help.why"], (row) => [row.name, row.purpose]));
}

const rows = (list) => list.items ?? [];

function helpline(one) {
  const { number } = one;
  return h("li", { class: "booked" },
    h("div", {}, h("p", { class: "row-title" }, h("strong", {}, one.name)), h("p", { class: "hint" }, [one.country, one.hours].filter(Boolean).join(" · "))),
    h("div", { class: "actions" }, number ? h("a", { class: "button primary", href: `tel:${String(number).replace(/[^+\d]/g, "")}` }, number) : null,
      one.emergency ? h("a", { class: "button", href: `tel:${one.emergency}` }, t("help.emergency", { number: one.emergency })) : null,
      one.url ? h("a", { class: "button", href: one.url, rel: "noreferrer" }, t("help.site")) : null));
}

function policy(name, list, heads, cells) {
  if (!list.length) return null;
  return h("section", { "aria-labelledby": name }, h("h2", { id: name }, t(`help.${name}`)), h("p", {}, t(`help.${name}_text`)),
    table(t(`help.${name}`), heads.map((key) => t(key)), list.map(cells), 2));
}

/** The country of this browser's language, if it says one. */
function region() {
  return navigator.languages.map((tag) => /-([A-Z]{2})\b/.exec(tag)?.[1]).find(Boolean);
}
