// Entering a card: the processor's own form where there is one; in the demo, cards that the stand-in knows.

import { get, post } from "./api.js";
import { h } from "./dom.js";
import { doing, field, form } from "./forms.js";
import { language, t } from "./i18n.js";

const SCRIPT = "https://js.stripe.com/v3/";
const TEST_CARDS = [
  ["pm_card_visa", "cards.good"],
  ["pm_card_mastercard", "cards.other"],
  ["pm_card_chargeCustomerFail", "cards.empty"],
  ["pm_card_chargeDeclined", "cards.declined"],
  ["pm_card_authenticationRequired", "cards.action"],
];

/** The form of a new card; `done` gets the processor's name for it. */
export async function cardEntry(done, cancel) {
  const { publishable_key: key } = await get("/console/options.json");
  const title = h("h3", { tabindex: "-1" }, t("payments.new"));
  const back = h("button", { type: "button", onclick: cancel }, t("dialog.cancel"));
  if (!key) return h("div", { class: "sheet" }, title, h("p", { class: "notice quiet" }, t("cards.stand_in")), test(done, back));
  const { client_secret: secret } = await post("/v1/payment-methods/setup");
  await load();
  return h("div", { class: "sheet" }, title, h("p", { class: "hint" }, t("cards.safe")), real(key, secret, done, back));
}

function test(done, back) {
  const options = TEST_CARDS.map(([name, words]) => [name, t(words)]);
  const send = ({ card }) => done(card);
  return form({ send, action: t("cards.save"), secondary: back }, field({ name: "card", label: t("cards.test"), options, value: TEST_CARDS[0][0] }));
}

function load() {
  if (window.Stripe) return Promise.resolve();
  return new Promise((resolve, reject) => {
    const script = h("script", { src: SCRIPT, onload: resolve, onerror: () => reject(new Error(t("cards.away"))) });
    document.head.append(script);
  });
}

function real(key, secret, done, back) {
  const stripe = window.Stripe(key, { locale: language() });
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  const elements = stripe.elements({ clientSecret: secret, appearance: { theme: dark ? "night" : "stripe" } });
  const mount = h("div", { class: "processor" });
  const said = h("div");
  elements.create("payment").mount(mount);
  const save = ({ currentTarget }) => doing(currentTarget, said, async () => {
    const told = await stripe.confirmSetup({ elements, redirect: "if_required", confirmParams: { return_url: `${location.origin}/#/payments` } });
    if (told.error) throw Object.assign(new Error(told.error.message), { detail: told.error.message, kind: "card" });
    await done(told.setupIntent.payment_method);
  });
  return h("div", {}, mount, said, h("div", { class: "actions" }, h("button", { type: "button", class: "primary", onclick: save }, t("cards.save")), back));
}
