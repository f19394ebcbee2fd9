// Personas: the ones everybody has and one's own; which of them are favourites, and in which order.

import { all, post, put, remove } from "../api.js";
import { say } from "../dialog.js";
import { h, icon } from "../dom.js";
import { doing } from "../forms.js";
import { hue, languageName } from "../format.js";
import { t, tell } from "../i18n.js";
import { go } from "../router.js";
import { disc } from "./home.js";

/** All personas, favourites first. */
export async function personas({ again }) {
  const [people, contacts] = await Promise.all([all("/v1/personas"), all("/v1/contacts")]);
  const order = [...contacts].sort((a, b) => a.position - b.position).map(({ persona }) => persona.id);
  const said = h("div", { class: "said" });
  const own = people.filter((persona) => !persona.system);
  const shared = people.filter((persona) => persona.system);
  const list = (title, id, rows) => h("section", { "aria-labelledby": id }, h("h2", { id }, title),
    h("ul", { class: "cards" }, rows.map((persona) => h("li", {}, card(persona, order, said, again)))));
  return h("div", {},
    h("div", { class: "title" }, h("h1", {}, t("nav.personas")), h("a", { class: "button primary", href: "#/personas/new" }, icon("plus"), t("personas.new"))),
    said,
    order.length > 1 ? ranking(order, people, said, again) : null,
    own.length ? list(t("personas.own"), "own", own) : h("p", { class: "lead" }, t("personas.none_own")),
    list(t("personas.system"), "system", shared));
}

function card(persona, order, said, again) {
  const favourite = order.includes(persona.id);
  const toggle = ({ currentTarget }) => doing(currentTarget, said, async () => {
    if (favourite) await remove(`/v1/contacts/${persona.id}`);
    else await put(`/v1/contacts/${persona.id}`);
    say(t(favourite ? "personas.unstarred" : "personas.starred", { name: persona.name }));
    again();
  });
  const copy = ({ currentTarget }) => doing(currentTarget, said, async () => {
    const made = await post(`/v1/personas/${persona.id}/copy`);
    go(`/personas/${made.id}`);
  });
  return h("article", { class: "card", style: { "--hue": hue(persona.id) } },
    h("div", { class: "card-head" }, disc(persona),
      h("div", {}, h("h3", {}, persona.name), h("p", { class: "hint" }, languageName(persona.language ?? "en"), " · ", t("personas.most", { minutes: persona.max_minutes ?? 15 })))),
    h("p", {}, persona.description),
    (persona.flags ?? []).map((flag) => h("p", { class: "notice" }, tell("flag", flag.replaceAll("-", "_")))),
    h("div", { class: "actions" },
      h("button", { type: "button", class: "star", "aria-pressed": String(favourite), onclick: toggle, "aria-label": t("personas.favourite", { name: persona.name }) }, icon("star"), h("span", {}, t("personas.favourite_short"))),
      persona.system ? null : h("a", { class: "button", href: `#/personas/${persona.id}`, "aria-label": t("personas.edit_name", { name: persona.name }) }, t("personas.edit")),
      h("button", { type: "button", onclick: copy, "aria-label": t("personas.copy_name", { name: persona.name }) }, t("personas.copy"))));
}

function ranking(order, people, said, again) {
  const move = (at, by) => ({ currentTarget }) => doing(currentTarget, said, async () => {
    const changed = [...order];
    [changed[at], changed[at + by]] = [changed[at + by], changed[at]];
    await put("/v1/contacts", { order: changed });
    await again();
  });
  const rows = order.map((id, at) => {
    const persona = people.find((one) => one.id === id);
    if (!persona) return null;
    const button = (by, key, off) => h("button", { type: "button", class: "quiet", disabled: off, onclick: move(at, by), "aria-label": t(key, { name: persona.name }) }, by < 0 ? "↑" : "↓");
    return h("li", {}, disc(persona), h("span", {}, persona.name), at === 0 ? h("span", { class: "tag" }, t("personas.first")) : null,
      h("span", { class: "moves" }, button(-1, "personas.up", at === 0), button(1, "personas.down", at === order.length - 1)));
  });
  return h("details", { class: "ranking" }, h("summary", {}, t("personas.order")), h("ol", {}, rows));
}
