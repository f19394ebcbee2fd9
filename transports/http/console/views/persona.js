// One persona of one's own: make it, change it, delete it.

import { all, fetched, get, patch, post, remove } from "../api.js";
import { say, sure } from "../dialog.js";
import { fill, h } from "../dom.js";
import { doing, field, form } from "../forms.js";
import { languageName } from "../format.js";
import { language, t } from "../i18n.js";
import { go } from "../router.js";

const SPOKEN = ["en-us", "en-gb", "tr", "ko", "de", "es", "fr", "it", "nl"];

/** The form of a new persona, or of the one in the address. */
export async function persona({ params }) {
  const [voices, known] = await Promise.all([all("/v1/voices"), params.persona ? get(`/v1/personas/${params.persona}`) : null]);
  const given = known ?? { language: language() === "en" ? SPOKEN[0] : language(), max_minutes: 15 };
  const send = async (filled) => {
    const body = { description: "", voice: "", ...filled }; // what was emptied is to be empty
    const kept = known ? await patch(`/v1/personas/${known.id}`, body) : await post("/v1/personas", body);
    say(t("persona.saved", { name: kept.name }));
    go("/personas");
  };
  const built = form({ send, action: t(known ? "persona.save" : "persona.create"), secondary: h("a", { class: "button", href: "#/personas" }, t("dialog.cancel")) },
    field({ name: "name", label: t("persona.name"), required: true, maxlength: 60, value: given.name, autocomplete: "off" }),
    field({ name: "description", label: t("persona.description"), maxlength: 500, value: given.description, hint: t("persona.description_hint") }),
    field({ name: "prompt", label: t("persona.prompt"), required: true, rows: 8, maxlength: 4000, counted: true, value: given.prompt, hint: t("persona.prompt_hint") }),
    voicePicker(voices, given.voice),
    field({ name: "language", label: t("persona.language"), options: spoken(voices, given.language), value: given.language }),
    field({ name: "max_minutes", type: "number", label: t("persona.max_minutes"), required: true, min: 1, max: 60, value: given.max_minutes ?? 15, inputmode: "numeric" }));
  return h("div", { class: "narrow" },
    h("p", { class: "crumb" }, h("a", { href: "#/personas" }, t("nav.personas"))),
    h("h1", {}, known ? t("persona.edit", { name: known.name }) : t("persona.new")),
    h("p", { class: "notice quiet" }, t("persona.rules")),
    built, known ? deleting(known) : null);
}

function spoken(voices, now) {
  const tags = [...new Set([...SPOKEN, ...voices.map((voice) => voice.language).filter(Boolean), now])];
  return tags.map((tag) => [tag, languageName(tag)]);
}

function voicePicker(voices, now) {
  const words = (voice) => [voice.name, voice.language && languageName(voice.language), voice.category].filter(Boolean).join(" · ");
  const options = [["", t("persona.voice_own")], ...voices.map((voice) => [voice.id, words(voice)])];
  if (now && !voices.some((voice) => voice.id === now)) options.push([now, now]);
  const said = h("div");
  const play = ({ currentTarget }) => doing(currentTarget, said, async () => {
    const chosen = picker.querySelector("select").value;
    const address = URL.createObjectURL(await fetched(`/v1/voices/${encodeURIComponent(chosen)}/preview`));
    await new Audio(address).play();
  });
  const hear = h("button", { type: "button", hidden: !now, onclick: play }, t("persona.voice_hear"));
  const picker = field({ name: "voice", label: t("persona.voice"), options, value: now ?? "", hint: t("persona.voice_hint"),
    onchange: ({ target }) => { hear.hidden = !target.value; fill(said); } });
  picker.append(h("p", { class: "hear" }, hear), said);
  return picker;
}

function deleting(known) {
  const said = h("div");
  const drop = ({ currentTarget }) => doing(currentTarget, said, async () => {
    const yes = await sure({ title: t("persona.delete_title", { name: known.name }), text: t("persona.delete_text"), action: t("persona.delete") });
    if (!yes) return;
    await remove(`/v1/personas/${known.id}`);
    say(t("persona.deleted", { name: known.name }));
    go("/personas");
  });
  return h("section", { class: "danger-zone", "aria-label": t("persona.delete") }, said, h("button", { type: "button", class: "danger quiet", onclick: drop }, t("persona.delete")));
}
