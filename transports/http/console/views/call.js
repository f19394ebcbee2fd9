// One call: how it went, what was said, the recording, what it cost, and its money back.

import { all, get, post } from "../api.js";
import { ask as dialog, say } from "../dialog.js";
import { h, icon } from "../dom.js";
import { field, form } from "../forms.js";
import { cost, fate, length, money, spokenLength, when } from "../format.js";
import { t } from "../i18n.js";
import { LIVE, line, liveCall } from "../live.js";
import { disc } from "./home.js";

/** The call in the address. */
export async function callDetail(place) {
  const call = await get(`/v1/calls/${place.params.call}`);
  if (LIVE.has(call.state)) {
    const card = liveCall(call, { over: () => [h("button", { type: "button", class: "primary", onclick: () => place.again() }, t("live.see"))] });
    place.leaving(card.stop);
    return h("div", {}, crumb(), card.node);
  }
  const turns = call.transcript ? await all(`/v1/calls/${call.id}/transcript`).catch(() => []) : [];
  const mark = place.query.get("turn");
  const root = h("div", {}, crumb(), head(call), facts(call, turns), player(call), transcript(call, turns, mark), refund(call, place.again));
  if (mark) requestAnimationFrame(() => root.querySelector(".marked")?.scrollIntoView({ block: "center" }));
  return root;
}

const crumb = () => h("p", { class: "crumb" }, h("a", { href: "#/calls" }, t("nav.history")));

function head(call) {
  return h("div", { class: "call-head" }, disc(call.persona ?? {}),
    h("div", {}, h("h1", {}, t("call.title", { name: call.persona?.name ?? t("live.title") })), h("p", { class: "lead" }, fate(call))),
    h("a", { class: "button", href: call.persona ? `#/schedule/new?persona=${call.persona.id}` : "#/schedule/new" }, icon("clock"), t("call.again")));
}

/** The middle one of the times from the caller's last word to the persona's first sound. */
function answers(turns) {
  const found = turns.map(({ timings }) => timings?.voice_to_voice_ms).filter((ms) => ms !== undefined).sort((a, b) => a - b);
  return found.length ? t("call.answers_value", { seconds: (found[Math.floor(found.length / 2)] / 1000).toFixed(1) }) : null;
}

function facts(call, turns) {
  const rows = [
    ["call.when", when(call.created_at)],
    ["call.length", h("span", { title: spokenLength(call.duration_seconds) }, call.duration_seconds ? length(call.duration_seconds) : "–")],
    ["call.cost", cost(call)],
    ["call.held", money(call.hold_usd_micros)],
    ["call.number", call.number],
    ["call.answers", answers(turns)],
    ["call.how", t(call.scheduled_id ? "history.scheduled" : "history.now")],
  ];
  return h("dl", { class: "facts" }, rows.filter(([, value]) => value).map(([key, value]) => h("div", {}, h("dt", {}, t(key)), h("dd", {}, value))));
}

function player(call) {
  if (!call.recording) return null;
  return h("section", { "aria-labelledby": "recording" }, h("h2", { id: "recording" }, t("call.recording")),
    h("audio", { controls: true, preload: "none", src: `/v1/calls/${call.id}/recording`, "aria-labelledby": "recording" }),
    h("p", { class: "hint" }, t("call.recording_hint"), " ", h("a", { href: `/v1/calls/${call.id}/recording`, download: `${call.id}.wav` }, t("call.download"))));
}

function transcript(call, turns, mark) {
  const none = call.answered_at ? t("call.no_transcript") : t("call.no_words");
  const rows = turns.filter((turn) => turn.text).map((turn) => {
    const built = line(turn, call);
    built.id = `turn-${turn.number}`;
    if (String(turn.number) === mark) built.classList.add("marked");
    return built;
  });
  return h("section", { "aria-labelledby": "said-here" }, h("h2", { id: "said-here" }, t("call.transcript")),
    rows.length ? h("ol", { class: "script" }, rows) : h("p", { class: "hint" }, none));
}

function refund(call, again) {
  if (!call.cost_usd_micros) return null;
  const open = () => dialog(t("refund.title"), (close) => {
    const send = async ({ reason }) => {
      await post(`/v1/calls/${call.id}/refund`, { reason });
      close();
      say(t("refund.done"));
      again();
    };
    return form({ send, action: t("refund.action"), secondary: h("button", { type: "button", onclick: close }, t("dialog.cancel")) },
      h("p", {}, t("refund.text", { cost: money(call.cost_usd_micros) })),
      field({ name: "reason", label: t("refund.reason"), rows: 3, required: true, maxlength: 500 }));
  });
  return h("section", { class: "after" }, h("h2", {}, t("refund.heading")), h("p", {}, t("refund.lead")), h("button", { type: "button", onclick: open }, t("refund.ask")));
}
