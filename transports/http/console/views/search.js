// Find a conversation by what it was about.

import { get } from "../api.js";
import { fill, h } from "../dom.js";
import { field, form } from "../forms.js";
import { when } from "../format.js";
import { t } from "../i18n.js";
import { session } from "../session.js";

/** The search, and what was found for the words in the address. */
export async function searching({ query }) {
  const asked = query.get("q") ?? "";
  const found = h("div", { class: "found" });
  const said = h("p", { role: "status", class: "hint" });
  const send = async ({ q }) => {
    window.history.replaceState(null, "", `#/search?q=${encodeURIComponent(q)}`);
    await look(q, found, said);
  };
  const built = form({ send, action: t("search.action"), label: t("nav.search"), compact: true },
    field({ name: "q", type: "search", label: t("search.label"), required: true, maxlength: 200, value: asked, hint: t("search.hint"), autocomplete: "off" }));
  if (asked) await look(asked, found, said);
  return h("div", { class: "narrow" }, h("h1", {}, t("nav.search")),
    session.me.consents.transcripts ? null : h("p", { class: "notice" }, t("search.no_transcripts"), " ", h("a", { href: "#/settings" }, t("search.allow"))),
    built, said, found);
}

async function look(q, found, said) {
  const { items } = await get("/v1/search", { q });
  said.textContent = items.length ? t("search.found", { count: items.length }) : t("search.nothing");
  fill(found, h("ol", { class: "hits" }, items.map(hit)));
}

function hit({ call, passage, who, at, turn }) {
  const id = typeof call === "string" ? call : call.id;
  const name = call.persona?.name;
  return h("li", {}, h("a", { href: `#/calls/${id}${turn ? `?turn=${turn}` : ""}` },
    h("span", { class: "words" }, passage),
    h("small", {}, [who === "bot" ? name ?? t("search.persona") : t("live.you"), when(at)].join(" · "))));
}
