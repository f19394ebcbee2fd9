// The receipt of an erased account, for whoever holds its address.

import { get } from "../api.js";
import { h } from "../dom.js";
import { when } from "../format.js";
import { t } from "../i18n.js";

/** When an erasure was asked for, when it was done, and how the receipt can be checked. */
export async function erasure({ params, again }) {
  const receipt = await get(`/v1/erasures/${params.erasure}`);
  const done = receipt.destroyed_at ?? receipt.erased_at ?? receipt.completed_at;
  const rows = [
    ["erasure.id", receipt.id],
    ["erasure.asked", when(receipt.requested_at ?? receipt.created_at)],
    ["erasure.destroyed", done ? when(done) : t("erasure.waiting")],
    ["erasure.signature", receipt.signature ?? receipt.hash],
  ];
  return h("div", { class: "narrow" }, h("h1", {}, t(done ? "erasure.title" : "erasure.title_waiting")), h("p", { class: "lead" }, t("erasure.lead")),
    h("dl", { class: "facts" }, rows.filter(([, value]) => value).map(([key, value]) => h("div", {}, h("dt", {}, t(key)), h("dd", { class: "long" }, value)))),
    done ? h("p", {}, h("a", { href: "#/sign-up" }, t("erasure.back"))) : h("button", { type: "button", onclick: again }, t("failed.again")));
}
