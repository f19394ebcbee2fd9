// Calls that are booked, and what became of those that were.

import { all, get, post, remove, search } from "../api.js";
import { say, sure } from "../dialog.js";
import { fill, h, icon } from "../dom.js";
import { doing } from "../forms.js";
import { away, minutes, when } from "../format.js";
import { t, tell } from "../i18n.js";
import { disc } from "./home.js";

const LIST = "/v1/scheduled-calls";
const PAGE = 20;
const OPEN = new Set(["proposed", "pending", "holding", "held", "dialing", "dialed"]);
const CHANGEABLE = new Set(["proposed", "pending", "holding", "held"]);

/** What is to come, soonest first; then what was. */
export async function schedule({ again }) {
  const [open, past] = await Promise.all([all(LIST, { state: "coming" }), get(LIST, { state: "over", limit: PAGE })]);
  const done = past.items;
  const said = h("div", { class: "said" });
  const older = h("ul", { class: "rows" }, done.map((one) => row(one, said, again)));
  return h("div", {},
    h("div", { class: "title" }, h("h1", {}, t("nav.schedule")), h("a", { class: "button primary", href: "#/schedule/new" }, icon("plus"), t("schedule.new"))),
    said,
    open.length ? h("ul", { class: "rows" }, open.map((one) => row(one, said, again))) : empty(),
    done.length ? h("section", { "aria-labelledby": "done" }, h("h2", { id: "done" }, t("schedule.done")), older) : null,
    past.next ? further(past.next, older, said, again) : null);
}

const empty = () => h("div", { class: "empty" }, h("p", {}, t("schedule.empty")), h("p", { class: "hint" }, t("schedule.empty_hint")));

function row(one, said, again) {
  const name = one.persona?.name ?? t("live.title");
  const cancel = ({ currentTarget }) => doing(currentTarget, said, async () => {
    const asked = { title: t("schedule.cancel_title"), text: t("schedule.cancel_text", { name, when: when(one.due_at) }) };
    const only = { action: t(one.repeat ? "schedule.cancel_one" : "schedule.cancel"), other: one.repeat && t("schedule.cancel_all") };
    const told = await sure({ ...asked, ...only });
    if (!told) return;
    await remove(`/v1/scheduled-calls/${one.id}${search({ only_this: one.repeat && told === "yes" ? "true" : "" })}`);
    say(t("schedule.canceled"));
    again();
  });
  const confirm = ({ currentTarget }) => doing(currentTarget, said, async () => {
    await post(`/v1/scheduled-calls/${one.id}/confirm`);
    say(t("schedule.confirmed"));
    await again();
  });
  const changeable = CHANGEABLE.has(one.state);
  return h("li", { class: "booked", "data-state": one.state },
    disc(one.persona ?? {}),
    h("div", {},
      h("p", { class: "row-title" }, h("strong", {}, when(one.due_at)), " ", h("span", { class: "tag" }, outcome(one))),
      h("p", { class: "hint" }, [name, minutes(one.max_minutes ?? 15), repeats(one.repeat), OPEN.has(one.state) ? away(one.due_at) : null, one.note].filter(Boolean).join(" · "))),
    h("div", { class: "actions" },
      one.state === "proposed" ? h("button", { type: "button", class: "primary", onclick: confirm }, t("schedule.confirm")) : null,
      changeable ? h("a", { class: "button", href: `#/schedule/${one.id}`, "aria-label": t("schedule.change_name", { name, when: when(one.due_at) }) }, t("schedule.change")) : null,
      changeable ? h("button", { type: "button", class: "quiet danger", onclick: cancel, "aria-label": t("schedule.cancel_name", { name, when: when(one.due_at) }) }, t("schedule.cancel")) : null,
      callOf(one) ? h("a", { class: "button", href: `#/calls/${callOf(one)}` }, t("schedule.see_call")) : null));
}

const callOf = (one) => (typeof one.call === "string" ? one.call : one.call?.id);

function outcome(one) {
  if (OPEN.has(one.state)) return tell("booked", one.state);
  const told = one.outcome ?? one.state;
  return tell("outcome", told.replaceAll("-", "_"));
}

function repeats(repeat) {
  if (!repeat) return null;
  const days = (repeat.days ?? []).map((name) => t(`day.${name}`)).join(", ");
  return t(`repeat.${repeat.every}`) + (days ? ` (${days})` : "");
}

function further(next, list, said, again) {
  const more = h("button", { type: "button" }, t("list.older"));
  more.addEventListener("click", () => doing(more, said, async () => {
    const page = await get(LIST, { state: "over", limit: PAGE, after: next });
    list.append(...page.items.map((one) => row(one, said, again)));
    next = page.next;
    if (!next) fill(more.parentElement);
  }));
  return h("p", { class: "further" }, more);
}
