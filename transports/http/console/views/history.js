// The calls that were, newest first, by persona, outcome, date and kind.

import { all, get } from "../api.js";
import { fill, h } from "../dom.js";
import { doing, field } from "../forms.js";
import { clock, cost, dayLong, length, spokenLength, zone } from "../format.js";
import { t } from "../i18n.js";
import { LIVE } from "../live.js";
import { midnight } from "../midnight.js";
import { notice } from "../problems.js";
import { disc } from "./home.js";

const PAGE = 20;
const ENDS = ["completed", "no_answer", "busy", "voicemail", "failed", "canceled", "rejected"];

/** The history with its filters; those of the address are set at first. */
export async function history({ query }) {
  const people = await all("/v1/personas");
  const found = h("div", { class: "found" });
  const said = h("p", { class: "unseen", role: "status" });
  const built = filters(people, query);
  const show = async () => {
    found.setAttribute("aria-busy", "true");
    try {
      const page = await get("/v1/calls", { ...wanted(built), limit: PAGE });
      fill(found, page.items.length ? listing(page, built) : h("div", { class: "empty" }, h("p", {}, t("history.empty"))));
      said.textContent = t("history.found", { count: page.items.length });
    } catch (error) {
      fill(found, notice(error));
    } finally {
      found.removeAttribute("aria-busy");
    }
  };
  built.addEventListener("change", show);
  built.addEventListener("submit", (event) => { event.preventDefault(); show(); });
  await show();
  return h("div", {}, h("h1", {}, t("nav.history")), h("details", { class: "filters", open: window.innerWidth > 700 || [...query].length > 0 }, h("summary", {}, t("history.filter")), built), said, found);
}

function filters(people, query) {
  const any = (words) => ["", words];
  return h("form", { class: "inline", "aria-label": t("history.filter") },
    field({ name: "persona", label: t("history.persona"), options: [any(t("history.all")), ...people.map((one) => [one.id, one.name])], value: query.get("persona") ?? "" }),
    field({ name: "state", label: t("history.outcome"), options: [any(t("history.all")), ...ENDS.map((state) => [state, t(`state.${state}`)])], value: query.get("state") ?? "" }),
    field({ name: "scheduled", label: t("history.kind"), options: [any(t("history.all")), ["true", t("history.scheduled")], ["false", t("history.now")]], value: query.get("scheduled") ?? "" }),
    field({ name: "from", type: "date", label: t("history.from"), value: query.get("from"), optional: false }),
    field({ name: "to", type: "date", label: t("history.to"), value: query.get("to"), optional: false }));
}

/** What the filters ask the server for: days are the person's own, times the server's. */
function wanted(built) {
  const given = Object.fromEntries(new FormData(built));
  return { ...given, from: given.from && midnight(given.from, zone()), to: given.to && midnight(given.to, zone(), 1) };
}

function listing(page, built) {
  const list = h("div", { class: "calendar" });
  const more = h("button", { type: "button" }, t("list.older"));
  const further = h("p", { class: "further" }, more);
  const said = h("div");
  let next = page.next;
  add(list, page.items);
  further.hidden = !next;
  more.addEventListener("click", () => doing(more, said, async () => {
    const older = await get("/v1/calls", { ...wanted(built), limit: PAGE, after: next });
    const first = add(list, older.items);
    next = older.next;
    further.hidden = !next;
    first?.focus();
  }));
  return [list, said, further];
}

/** Add calls under the headings of their days; returns the link of the first. */
function add(list, calls) {
  let first = null;
  for (const call of calls) {
    const title = dayLong(call.created_at);
    let section = list.lastElementChild;
    if (section?.dataset.day !== title) {
      section = h("section", { "data-day": title }, h("h2", { class: "day" }, title), h("ul", { class: "rows" }));
      list.append(section);
    }
    const row = item(call);
    section.querySelector("ul").append(row);
    first ??= row.querySelector("a");
  }
  return first;
}

function item(call) {
  const live = LIVE.has(call.state);
  const told = [clock(call.created_at), call.scheduled_id ? t("history.scheduled") : null, live ? null : outcome(call)].filter(Boolean).join(" · ");
  return h("li", {}, h("a", { class: "row", href: live ? "#/" : `#/calls/${call.id}` },
    disc(call.persona ?? {}),
    h("span", {}, h("strong", {}, call.persona?.name ?? t("live.title")), h("small", {}, told)),
    live ? h("span", { class: "tag lamp" }, t("history.live"))
      : h("span", { class: "sums" }, h("span", {}, cost(call)), h("small", { title: spokenLength(call.duration_seconds) }, call.duration_seconds ? length(call.duration_seconds) : "–"))));
}

/** How a call ended, in two words. */
export const outcome = (call) => t(`state.${call.state}`);
