// Before the first call: age and consents, a number that is proven, a card.

import { all, get, post, remove } from "../api.js";
import { NEEDED, box, texts } from "../consents.js";
import { h } from "../dom.js";
import { field, form } from "../forms.js";
import { t } from "../i18n.js";
import { numberField, tidy } from "../numbers.js";
import { go } from "../router.js";
import { session } from "../session.js";

/** The steps in order; the first that is not done is open. */
export async function welcome({ again }) {
  const [numbers, methods] = await Promise.all([all("/v1/numbers"), all("/v1/payment-methods").catch(() => [])]);
  const agreed = mayBeCalled();
  const proven = numbers.find((number) => number.verified_at);
  const steps = [
    ["consents", agreed, () => consents(again)],
    ["number", Boolean(proven), () => proving(numbers.find((number) => !number.verified_at), again)],
    ["card", methods.length > 0, async () => h("p", {}, h("a", { class: "button primary", href: "#/payments?next=welcome" }, t("welcome.card_action")))],
  ];
  const open = steps.findIndex(([, done]) => !done);
  const drawn = await Promise.all(steps.map(([name, done, body], at) => step(name, done, at === open, body)));
  const done = open < 0
    ? h("p", {}, h("a", { class: "button primary big", href: "#/" }, t("welcome.ready")))
    : h("p", { class: "aside" }, h("a", { href: "#/" }, t("welcome.later")));
  return h("div", { class: "narrow" }, h("h1", {}, t(open < 0 ? "welcome.done" : "welcome.title")),
    h("p", { class: "lead" }, t("welcome.lead")), h("ol", { class: "steps" }, drawn), done);
}

/** Whether the person is an adult who agreed to be called. */
export const mayBeCalled = () => session.me.adult && NEEDED.every((purpose) => session.me.consents[purpose]);

async function step(name, done, open, body) {
  const title = t(`welcome.${name}`);
  const state = done ? t("welcome.step_done") : open ? t("welcome.step_now") : t("welcome.step_next");
  return h("li", { class: done ? "done" : open ? "open" : null, "aria-current": open ? "step" : null },
    h("h2", {}, title, h("span", { class: "tag" }, state)),
    open ? [h("p", {}, t(`welcome.${name}_text`)), await body()] : null);
}

async function consents(again) {
  const text = await texts();
  const boxes = [
    session.me.adult ? null : field({ name: "adult", type: "checkbox", label: t("consent.adult"), required: true }),
    ...NEEDED.filter((purpose) => !session.me.consents[purpose]).map((purpose) => box(purpose, text)),
  ];
  const send = async ({ adult, ...given }) => {
    if (adult) await post("/v1/me/adult");
    for (const purpose of Object.keys(given)) await post("/v1/me/consents", { purpose, granted: true });
    session.me = await get("/v1/me");
    again();
  };
  return form({ send, action: t("welcome.agree") }, boxes);
}

/** A number to add, or the code that proves one. */
export async function proving(waiting, again) {
  if (!waiting) {
    const send = async ({ number }) => { await post("/v1/numbers", { number: tidy(number) }); again(); };
    return form({ send, action: t("number.send_code") }, numberField());
  }
  const { codes } = await get("/console/options.json");
  const prove = async ({ code }) => {
    await post(`/v1/numbers/${waiting.id}/verify`, { code });
    again();
  };
  const anew = async () => {
    await remove(`/v1/numbers/${waiting.id}`);
    again();
  };
  const other = h("button", { type: "button", onclick: () => anew().catch(() => go("/settings")) }, t("number.other"));
  return form({ send: prove, action: t("number.prove"), secondary: other },
    h("p", {}, t("number.sent", { number: waiting.number })),
    codes ? h("p", { class: "notice quiet" }, t("number.demo"), " ", h("a", { href: codes, target: "_blank", rel: "noopener" }, t("number.demo_link"))) : null,
    field({ name: "code", label: t("number.code"), required: true, inputmode: "numeric", autocomplete: "one-time-code", pattern: "[0-9]{4,10}", maxlength: 10, class: "code", hint: t("number.code_hint"), "data-wrong": "number.code_wrong" }));
}
