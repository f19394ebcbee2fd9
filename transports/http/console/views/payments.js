// Cards, what was paid, what a call costs. Card numbers are typed into the processor's own fields and never reach us.

import { all, get, post, put, remove } from "../api.js";
import { say, sure } from "../dialog.js";
import { fill, h } from "../dom.js";
import { doing } from "../forms.js";
import { money, when } from "../format.js";
import { cardEntry } from "../cards.js";
import { t, tell } from "../i18n.js";
import { table } from "../plot.js";
import { currentPrice } from "../prices.js";
import { go } from "../router.js";

/** Cards first, then the statement and the prices. */
export async function payments({ query, again }) {
  const added = query.get("next") === "welcome" ? () => go("/welcome") : again;
  const [methods, statement, prices] = await Promise.all([all("/v1/payment-methods"), get("/v1/ledger", { limit: 20 }), get("/v1/prices")]);
  const said = h("div", { class: "said" });
  return h("div", {}, h("h1", {}, t("nav.payments")),
    h("section", { "aria-labelledby": "cards" }, h("h2", { id: "cards" }, t("payments.cards")), said,
      methods.length ? h("ul", { class: "rows" }, methods.map((method) => card(method, said, again))) : h("p", {}, t("payments.none")),
      adding(added)),
    pricing(currentPrice(prices)),
    h("section", { "aria-labelledby": "statement" }, h("h2", { id: "statement" }, t("payments.statement")), paid(statement)));
}

const named = (method) => t("payments.card", { brand: (method.brand ?? "").replace(/^./, (letter) => letter.toUpperCase()), last4: method.last4 });

function card(method, said, again) {
  const name = named(method);
  const first = ({ currentTarget }) => doing(currentTarget, said, async () => {
    await put(`/v1/payment-methods/${method.id}/default`);
    say(t("payments.now_default", { name }));
    await again();
  });
  const drop = ({ currentTarget }) => doing(currentTarget, said, async () => {
    const booked = await waitingCalls();
    const text = booked ? t("payments.remove_booked", { count: booked }) : t("payments.remove_text");
    if (!(await sure({ title: t("payments.remove_title", { name }), text, action: t("payments.remove") }))) return;
    const told = await remove(`/v1/payment-methods/${method.id}`);
    say(told?.warning ?? t("payments.removed", { name }));
    await again();
  });
  const expires = `${String(method.expires_month).padStart(2, "0")}/${method.expires_year}`;
  return h("li", { class: "booked" },
    h("span", { class: "plastic", "aria-hidden": "true" }, (method.brand ?? "card").slice(0, 4)),
    h("div", {}, h("p", { class: "row-title" }, h("strong", {}, name), " ", method.default ? h("span", { class: "tag" }, t("payments.default")) : null),
      h("p", { class: "hint" }, t("payments.expires", { when: expires }))),
    h("div", { class: "actions" },
      method.default ? null : h("button", { type: "button", onclick: first, "aria-label": t("payments.make_default_name", { name }) }, t("payments.make_default")),
      h("button", { type: "button", class: "quiet danger", onclick: drop, "aria-label": t("payments.remove_name", { name }) }, t("payments.remove"))));
}

/** How many booked calls a card may be needed for. */
async function waitingCalls() {
  const { items } = await get("/v1/scheduled-calls", { state: "coming", limit: 100 }).catch(() => ({ items: [] }));
  return items.length;
}

function adding(added) {
  const place = h("div", { class: "entry" });
  const begin = ({ currentTarget }) => doing(currentTarget, place, async () => {
    currentTarget.hidden = true;
    try {
      fill(place, await cardEntry(async (made) => {
        await post("/v1/payment-methods", { payment_method: made });
        say(t("payments.added"));
        await added();
      }, () => { fill(place); currentTarget.hidden = false; currentTarget.focus(); }));
      place.querySelector("h3")?.focus();
    } catch (error) {
      currentTarget.hidden = false;
      throw error;
    }
  });
  return [h("p", {}, h("button", { type: "button", class: "primary", onclick: begin }, t("payments.add"))), place];
}

function pricing(price) {
  if (!price) return null;
  return h("section", { "aria-labelledby": "prices" }, h("h2", { id: "prices" }, t("payments.prices")),
    h("dl", { class: "totals" },
      h("div", {}, h("dt", {}, t("payments.per_call")), h("dd", { class: "figure" }, money(price.call_usd_micros))),
      h("div", {}, h("dt", {}, t("payments.per_minute")), h("dd", { class: "figure" }, money(price.minute_usd_micros)))),
    h("p", { class: "hint" }, t("payments.prices_hint")));
}

function paid(statement) {
  const rows = statement.items;
  if (!rows.length) return h("p", { class: "hint" }, t("payments.nothing"));
  const body = (items) => items.map((row) => [
    when(row.at),
    what(row),
    h("span", { class: row.kind }, money(row.usd_micros)),
  ]);
  const place = h("div");
  const shown = [...rows];
  let next = statement.next;
  const more = h("button", { type: "button" }, t("list.older"));
  const said = h("div");
  const draw = () => {
    fill(place, table(t("payments.statement"), [t("payments.when"), t("payments.what"), t("payments.amount")], body(shown), 2));
    more.hidden = !next;
  };
  more.addEventListener("click", () => doing(more, said, async () => {
    const page = await get("/v1/ledger", { limit: 20, after: next });
    shown.push(...page.items);
    next = page.next;
    draw();
  }));
  draw();
  return [place, said, h("p", { class: "further" }, more)];
}

function what(row) {
  const words = tell("paid", row.kind);
  return row.call ? h("a", { href: `#/calls/${row.call}` }, words) : words;
}
