// Usage: calls, minutes and money, by day and by persona.

import { get } from "../api.js";
import { fill, h } from "../dom.js";
import { field } from "../forms.js";
import { date, minutes, money, zone } from "../format.js";
import { t } from "../i18n.js";
import { columns, lying, table } from "../plot.js";
import { notice } from "../problems.js";

const MEASURES = {
  spent: [(row) => row.spent_usd_micros ?? 0, money],
  minutes: [(row) => row.minutes ?? 0, (value) => minutes(value)],
  calls: [(row) => row.calls ?? 0, String],
};
const SPANS = { week: 7, month: 30, year: 365 };

/** The last 30 days, or another span. */
export async function usage() {
  const shown = h("div", { class: "found" });
  const choice = { measure: "spent", span: "month" };
  const draw = async () => {
    try {
      fill(shown, await figures(choice));
    } catch (error) {
      fill(shown, notice(error));
    }
  };
  const pick = (name) => ({ target }) => { choice[name] = target.value; draw(); };
  await draw();
  return h("div", {}, h("h1", {}, t("nav.usage")),
    h("div", { class: "inline" },
      field({ name: "span", label: t("usage.span"), options: Object.keys(SPANS).map((key) => [key, t(`usage.${key}`)]), value: choice.span, onchange: pick("span") }),
      field({ name: "measure", label: t("usage.measure"), options: Object.keys(MEASURES).map((key) => [key, t(`usage.${key}`)]), value: choice.measure, onchange: pick("measure") })),
    shown);
}

async function figures({ measure, span }) {
  const today = new Intl.DateTimeFormat("en-CA", { timeZone: zone() }).format(new Date());
  const first = new Date(Date.parse(today) - (SPANS[span] - 1) * 86_400_000).toISOString().slice(0, 10);
  const range = { from: first, to: today }; // days of the person's own zone, both included
  const by = span === "year" ? "month" : "day";
  const [times, people] = await Promise.all([get("/v1/usage", { by, ...range }), get("/v1/usage", { by: "persona", ...range })]);
  const { totals } = times;
  const [read, show] = MEASURES[measure];
  const rows = (by === "day" ? eachDay(times.items, first, today) : eachMonth(times.items)).map((row) => ({ ...row, value: read(row), shown: show(read(row)) }));
  const persons = people.items.map((row) => ({ ...row, label: personName(row), value: read(row), shown: show(read(row)) }));
  const cells = (row) => [row.label, String(row.calls ?? 0), String(row.minutes ?? 0), money(row.spent_usd_micros)];
  const heads = (name) => [t(name), t("usage.calls"), t("usage.minutes"), t("usage.spent")];
  return [
    h("dl", { class: "totals" }, [["usage.spent", money(totals.spent_usd_micros)], ["usage.minutes", String(totals.minutes)], ["usage.calls", String(totals.calls)]]
      .map(([key, value]) => h("div", {}, h("dt", {}, t(key)), h("dd", { class: "figure" }, value)))),
    h("section", { "aria-labelledby": "by-day" }, h("h2", { id: "by-day" }, t(`usage.by_${by}`)),
      totals.calls ? columns(rows, t("usage.plot", { measure: t(`usage.${measure}`) })) : h("p", { class: "hint" }, t("usage.none")),
      h("details", {}, h("summary", {}, t("usage.table")), table(t(`usage.by_${by}`), heads(`usage.${by}`), rows.filter((row) => row.calls).map(cells)))),
    persons.length ? h("section", { "aria-labelledby": "by-persona" }, h("h2", { id: "by-persona" }, t("usage.by_persona")),
      lying(persons, t("usage.by_persona")),
      h("details", {}, h("summary", {}, t("usage.table")), table(t("usage.by_persona"), heads("usage.persona"), persons.map(cells)))) : null,
  ];
}

const keyOf = (row) => String(row.day ?? row.month ?? row.key ?? row.period ?? "");
const personName = (row) => row.persona?.name ?? row.name ?? row.key ?? t("usage.gone");

/** Every day of the span: days without calls are bars of no height. */
function eachDay(items, first, last) {
  const known = new Map(items.map((row) => [keyOf(row).slice(0, 10), row]));
  const days = [];
  for (let at = Date.parse(first); at <= Date.parse(last); at += 86_400_000) {
    const day = new Date(at).toISOString().slice(0, 10);
    days.push({ ...known.get(day), label: date(day), short: date(day, { day: "numeric", month: "numeric" }) });
  }
  return days;
}

function eachMonth(items) {
  const sorted = [...items].sort((a, b) => keyOf(a).localeCompare(keyOf(b)));
  return sorted.map((row) => ({ ...row, label: date(`${keyOf(row).slice(0, 7)}-01`, { month: "long", year: "numeric" }), short: date(`${keyOf(row).slice(0, 7)}-01`, { month: "short" }) }));
}
