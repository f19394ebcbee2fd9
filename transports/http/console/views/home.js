// Home: who may call, and the one tap that makes the phone ring; or the call that is going on.

import { all, get, onceKey, post } from "../api.js";
import { fill, h, icon } from "../dom.js";
import { doing, field, values } from "../forms.js";
import { hue, money, monogram, when } from "../format.js";
import { t } from "../i18n.js";
import { LIVE, liveCall } from "../live.js";
import { costOf, currentPrice } from "../prices.js";
import { notice, sentence } from "../problems.js";
import { go } from "../router.js";
import { session } from "../session.js";
import { mayBeCalled } from "./welcome.js";

/** The favourites, or the live call if there is one. */
export async function home(place) {
  const [contacts, personas, live, facts] = await Promise.all([
    all("/v1/contacts"), all("/v1/personas"), liveNow(), readiness()]);
  const root = h("div", { class: "home" });
  if (live) showCall(root, live, place);
  else choose(root, favourites(contacts, personas), facts, place);
  return root;
}

/** `/call-me`, the shortcut of the installed app: the first favourite calls, at once. */
export async function ringAtOnce(place) {
  const [contacts, personas, live] = await Promise.all([all("/v1/contacts"), all("/v1/personas"), liveNow()]);
  const root = h("div", { class: "home" });
  if (live) {
    showCall(root, live, place);
    return root;
  }
  const first = favourites(contacts, personas)[0];
  if (!first) return home(place);
  try {
    showCall(root, await ring(first), place);
  } catch (error) {
    choose(root, favourites(contacts, personas), await readiness(), place);
    root.append(notice(error));
  }
  return root;
}

/** Make the phone ring. The key makes a repeated request the same call. */
const ring = (persona, key = onceKey(), more = {}) =>
  post("/v1/calls", { persona: persona.id, max_minutes: persona.max_minutes, ...more }, { key });

async function liveNow() {
  const { items } = await get("/v1/calls", { limit: 5 });
  return items.find((call) => LIVE.has(call.state)) ?? null;
}

/** What is still missing before a phone can ring, and what a call costs. */
async function readiness() {
  const [numbers, methods, prices, booked] = await Promise.all([
    all("/v1/numbers"), all("/v1/payment-methods").catch(() => null), get("/v1/prices").catch(() => null),
    get("/v1/scheduled-calls", { state: "coming", limit: 5 }).catch(() => ({ items: [] }))]);
  const missing = [];
  if (!mayBeCalled()) missing.push(["welcome", "home.need_consent"]);
  if (!numbers.some((number) => number.verified_at)) missing.push(["welcome", "home.need_number"]);
  if (methods && !methods.length) missing.push(["payments?next=welcome", "home.need_card"]);
  const next = booked.items.find((one) => ["pending", "holding", "held"].includes(one.state)); // the soonest is first
  const proposed = booked.items.find((one) => one.state === "proposed");
  return { missing, price: currentPrice(prices), next, proposed, numbers: numbers.filter((number) => number.verified_at && !number.opted_out) };
}

function favourites(contacts, personas) {
  if (contacts.length) return [...contacts].sort((a, b) => a.position - b.position).map((contact) => contact.persona);
  return personas.filter((persona) => persona.system);
}

function choose(root, people, facts, place) {
  const said = h("div", { class: "said" });
  const [first, ...others] = people;
  const options = choosing(facts);
  const call = (persona, outside) => ({ currentTarget }) => doing(currentTarget, said, async () => {
    try {
      showCall(root, await ring(persona, onceKey(), { ...values(options), ...(outside ? { outside_hours: true } : {}) }), place);
      root.querySelector("h1").focus();
    } catch (error) {
      if (error.kind === "already-on-call") await place.again();
      else if (error.kind === "quiet-hours" && !outside) fill(said, anyway(error, call(persona, true)));
      else throw error;
    }
  });
  const hello = session.me.name ? t("home.title_name", { name: session.me.name }) : t("home.title");
  fill(root,
    h("h1", {}, hello),
    facts.missing.length ? todo(facts.missing) : null,
    facts.proposed ? h("p", { class: "notice" }, t("home.proposed", { name: facts.proposed.persona.name ?? "", when: when(facts.proposed.due_at) }), " ",
      h("a", { href: "#/schedule", class: "way-on" }, t("home.proposed_look"))) : null,
    said,
    first ? hero(first, call(first), facts) : h("p", {}, h("a", { class: "button primary", href: "#/personas/new" }, t("personas.new"))),
    first ? h("details", { class: "options" }, h("summary", {}, t("home.options")), options) : null,
    others.length ? h("section", { "aria-labelledby": "others" },
      h("h2", { id: "others" }, t("home.others")),
      h("ul", { class: "people" }, others.slice(0, 8).map((persona) => h("li", {}, small(persona, call(persona)))))) : null,
    facts.next ? h("p", { class: "aside" }, icon("clock"), " ", t("home.next", { name: facts.next.persona.name ?? "", when: when(facts.next.due_at) }), " ",
      h("a", { href: "#/schedule" }, t("home.see_schedule"))) : h("p", { class: "aside" }, h("a", { href: "#/schedule/new" }, t("home.book"))));
}

/** What a call may differ in from the ordinary; nothing of it needs to be touched. */
function choosing({ numbers, price }) {
  const most = field({ name: "max_minutes", type: "number", label: t("home.minutes"), min: 1, max: 60, inputmode: "numeric", optional: false,
    hint: t("home.minutes_hint", { hold: money(costOf(price, 15 * 60)) }) });
  const where = numbers.length > 1 ? field({ name: "number", label: t("home.number"), options: numbers.map((one) => [one.id, one.number]), value: numbers.find((one) => one.primary)?.id }) : null;
  return h("form", { class: "pair", "aria-label": t("home.options"), onsubmit: (event) => event.preventDefault() }, most, where);
}

/** Quiet hours bind whoever sells; somebody who asks to be called now has to say so (CMB-04). */
const anyway = (error, call) => h("div", { class: "notice", role: "alert" }, h("p", {}, sentence(error)),
  h("div", { class: "actions" }, h("button", { type: "button", class: "primary", onclick: call }, t("home.anyway"))));

function todo(missing) {
  const rows = missing.map(([where, words]) => h("li", {}, h("a", { href: `#/${where}` }, t(words))));
  return h("section", { class: "notice", "aria-labelledby": "todo" }, h("h2", { id: "todo" }, t("home.todo")), h("ul", {}, rows));
}

function hero(persona, call, { price }) {
  return h("section", { class: "hero", style: { "--hue": hue(persona.id) }, "aria-labelledby": "first" },
    disc(persona),
    h("div", {},
      h("h2", { id: "first" }, persona.name),
      h("p", {}, persona.description)),
    h("button", { type: "button", class: "call", onclick: call, "aria-describedby": price ? "price" : null }, icon("phone"),
      h("span", {}, t("home.call_me")), h("span", { class: "unseen" }, t("home.by", { name: persona.name }))),
    price ? h("p", { class: "hint", id: "price" }, t("home.price", { call: money(price.call_usd_micros), minute: money(price.minute_usd_micros) })) : null);
}

function small(persona, call) {
  return h("button", { type: "button", class: "person", onclick: call, style: { "--hue": hue(persona.id) } }, disc(persona),
    h("span", {}, h("strong", {}, persona.name), h("small", {}, t("home.call_me"))), icon("phone"));
}

/** The round sign of a persona. */
export const disc = (persona) =>
  h("span", { class: "disc", "aria-hidden": "true", style: { "--hue": hue(persona.id ?? persona.name ?? "") } }, monogram(persona.name));

function showCall(root, call, place) {
  const over = () => [
    h("a", { class: "button", href: `#/calls/${call.id}` }, t("live.see")),
    h("button", { type: "button", class: "primary", onclick: () => go("/") }, t("live.home")),
  ];
  const card = liveCall(call, { over });
  place.leaving(card.stop);
  fill(root, card.node);
}
