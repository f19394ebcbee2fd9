// Settings: profile, numbers, what one agreed to, password, sessions, one's data, and the end of the account.

import { all, ask, get, patch, post, put, remove } from "../api.js";
import { NEEDED, PURPOSES, texts } from "../consents.js";
import { ask as dialog, say, sure } from "../dialog.js";
import { h } from "../dom.js";
import { doing, field, form } from "../forms.js";
import { day, when, zone } from "../format.js";
import { LANGUAGES, language, speak, t } from "../i18n.js";
import { go } from "../router.js";
import { ended, session } from "../session.js";
import { zones } from "../zones.js";
import { proving } from "./welcome.js";

/** All settings on one page, each with its own heading. */
export async function settings({ again }) {
  const [numbers, sessions] = await Promise.all([all("/v1/numbers"), all("/v1/sessions")]);
  session.me = await get("/v1/me");
  return h("div", { class: "narrow settings" }, h("h1", {}, t("nav.settings")),
    section("profile", profile(again)),
    section("numbers", await numberList(numbers, again)),
    section("consents", await consents(again)),
    section("keeping", keeping()),
    section("password", password()),
    section("factor", factor(again)),
    section("sessions", signedIn(sessions, again)),
    section("data", yourData()),
    section("erase", erasing()));
}

const section = (name, ...content) => h("section", { "aria-labelledby": `s-${name}`, id: name }, h("h2", { id: `s-${name}` }, t(`settings.${name}`)), content);

function profile(again) {
  const { me } = session;
  const send = async (given) => {
    session.me = await patch("/v1/me", { name: "", ...given });
    await speak(session.me.language);
    say(t("settings.saved"));
    again();
  };
  return [
    h("p", { class: "hint" }, me.email, " ", h("span", { class: "tag" }, t(me.email_verified ? "settings.email_verified" : "settings.email_unverified"))),
    me.email_verified ? null : mailCode(again),
    form({ send, action: t("settings.save"), label: t("settings.profile") },
      field({ name: "name", label: t("sign.name"), maxlength: 60, value: me.name, autocomplete: "given-name" }),
      field({ name: "zone", label: t("settings.zone"), options: zones(), value: me.zone ?? zone(), hint: t("settings.zone_hint") }),
      field({ name: "language", label: t("sign.language"), options: Object.entries(LANGUAGES), value: me.language ?? language() }))];
}

function mailCode(again) {
  const said = h("div");
  const open = ({ currentTarget }) => doing(currentTarget, said, async () => {
    await post("/v1/email-codes");
    dialog(t("settings.email_prove"), (close) => form({
      send: async ({ code }) => { session.me = await post("/v1/email-codes/verify", { code }); close(); say(t("settings.email_proven")); again(); },
      action: t("number.prove"), secondary: h("button", { type: "button", onclick: close }, t("dialog.cancel")),
    }, h("p", {}, t("settings.email_sent", { email: session.me.email })),
      field({ name: "code", label: t("number.code"), required: true, inputmode: "numeric", autocomplete: "one-time-code", class: "code" })));
  });
  return [h("p", {}, h("button", { type: "button", onclick: open }, t("settings.email_prove"))), said];
}

async function numberList(numbers, again) {
  const said = h("div");
  const waiting = numbers.find((number) => !number.verified_at);
  const drop = (number) => ({ currentTarget }) => doing(currentTarget, said, async () => {
    if (!(await sure({ title: t("number.remove_title", { number: number.number }), text: t("number.remove_text"), action: t("number.remove") }))) return;
    await remove(`/v1/numbers/${number.id}`);
    await again();
  });
  const allow = (number) => ({ currentTarget }) => doing(currentTarget, said, async () => {
    await post(`/v1/numbers/${number.id}/opt-in`);
    say(t("number.allowed", { number: number.number }));
    await again();
  });
  const never = (number) => ({ currentTarget }) => doing(currentTarget, said, async () => {
    await post("/v1/opt-outs", { number: number.id });
    say(t("live.stopped"));
    await again();
  });
  const row = (number) => h("li", { class: "booked" },
    h("div", {}, h("p", { class: "row-title" }, h("strong", {}, number.number), " ", tag(number))),
    h("div", { class: "actions" },
      number.verified_at && !number.opted_out ? h("button", { type: "button", class: "quiet", onclick: never(number), "aria-label": t("number.stop_name", { number: number.number }) }, t("number.stop")) : null,
      number.verified_at && number.opted_out !== false ? h("button", { type: "button", class: "quiet", onclick: allow(number), "aria-label": t("number.allow_name", { number: number.number }) }, t("number.allow")) : null,
      h("button", { type: "button", class: "quiet danger", onclick: drop(number), "aria-label": t("number.remove_name", { number: number.number }) }, t("number.remove"))));
  return [said, numbers.length ? h("ul", { class: "rows" }, numbers.map(row)) : null,
    h("details", { open: Boolean(waiting) || !numbers.length }, h("summary", {}, t(waiting ? "number.prove_title" : "number.add")), await proving(waiting, again))];
}

function tag(number) {
  if (!number.verified_at) return h("span", { class: "tag lamp" }, t("number.unproven"));
  if (number.opted_out) return h("span", { class: "tag lamp" }, t("number.stopped"));
  return h("span", { class: "tag" }, t(number.primary ? "number.primary" : "number.proven"));
}

async function consents(again) {
  const text = await texts();
  const said = h("div");
  const rows = PURPOSES.map((purpose) => {
    const granted = Boolean(session.me.consents[purpose]);
    const change = ({ currentTarget }) => doing(currentTarget, said, async () => {
      if (NEEDED.includes(purpose) && granted && !(await sure({ title: t("settings.stop_service"), text: t("settings.stop_service_text"), action: t("settings.withdraw") }))) return;
      await post("/v1/me/consents", { purpose, granted: !granted });
      say(t(granted ? "settings.withdrawn" : "settings.granted"));
      await again();
    });
    return h("li", { class: "switching" },
      h("div", {}, h("p", { class: "row-title", id: `c-${purpose}` }, text[purpose]), h("p", { class: "hint", id: `c-${purpose}-more` }, t(`consent.${purpose}_hint`))),
      h("button", { type: "button", role: "switch", class: "switch", "aria-checked": String(granted), "aria-labelledby": `c-${purpose}`, "aria-describedby": `c-${purpose}-more`, onclick: change }, h("span", {}, t(granted ? "settings.on" : "settings.off"))));
  });
  return [said, h("ul", { class: "rows" }, rows)];
}

function keeping() {
  const send = async ({ transcript_days }) => {
    session.me = await patch("/v1/me", { transcript_days });
    say(t("settings.saved"));
  };
  return form({ send, action: t("settings.save"), label: t("settings.keeping"), compact: true },
    field({ name: "transcript_days", type: "number", label: t("settings.transcript_days"), min: 1, max: 90, required: true, value: session.me.transcript_days ?? 90, inputmode: "numeric", hint: t("settings.transcript_days_hint") }));
}

function password() {
  const send = async (given, built) => {
    await put("/v1/me/password", given);
    built.reset();
    say(t("settings.password_changed"));
  };
  return form({ send, action: t("settings.password_change"), label: t("settings.password") },
    h("input", { type: "text", autocomplete: "username", value: session.me.email, class: "unseen", tabindex: "-1", "aria-hidden": "true", readonly: true }),
    field({ name: "current", type: "password", label: t("settings.password_now"), required: true, autocomplete: "current-password" }),
    field({ name: "new", type: "password", label: t("sign.new_password"), required: true, minlength: 10, maxlength: 200, autocomplete: "new-password", hint: t("sign.password_hint") }));
}

/** The second factor: an authenticator app whose code every sign-in then asks for. */
function factor(again) {
  const said = h("div");
  const code = () => field({ name: "code", label: t("number.code"), required: true, inputmode: "numeric", autocomplete: "one-time-code", class: "code", pattern: "[0-9]{6}", maxlength: 6, "data-wrong": "number.code_wrong" });
  const close = (box) => h("button", { type: "button", onclick: box }, t("dialog.cancel"));
  const refresh = async () => { session.me = await get("/v1/me"); again(); };
  const add = ({ currentTarget }) => doing(currentTarget, said, async () => {
    const offered = await post("/v1/me/second-factor");
    dialog(t("factor.add"), (shut) => form({
      action: t("number.prove"), secondary: close(shut),
      send: async (given) => { await post("/v1/me/second-factor/confirm", given); shut(); say(t("factor.added")); await refresh(); },
    }, h("p", {}, t("factor.how")), h("p", {}, h("a", { href: offered.uri }, t("factor.open"))), h("p", { class: "long" }, h("code", {}, offered.secret)), code()));
  });
  const drop = () => dialog(t("factor.remove"), (shut) => form({
    action: t("factor.remove"), danger: true, secondary: close(shut),
    send: async (given) => { await remove("/v1/me/second-factor", given); shut(); say(t("factor.removed")); await refresh(); },
  }, field({ name: "password", type: "password", label: t("sign.password"), required: true, autocomplete: "current-password" }), code()));
  const { second_factor: on } = session.me;
  return [h("p", {}, t(on ? "factor.on" : "factor.off")), h("button", { type: "button", onclick: on ? drop : add }, t(on ? "factor.remove" : "factor.add")), said];
}

function signedIn(sessions, again) {
  const said = h("div");
  const out = (one) => ({ currentTarget }) => doing(currentTarget, said, async () => {
    await remove(`/v1/sessions/${one.id}`);
    if (one.current) return leave();
    return again();
  });
  const row = (one) => h("li", { class: "booked" },
    h("div", {}, h("p", { class: "row-title" }, h("strong", {}, device(one.agent)), " ", one.current ? h("span", { class: "tag" }, t("settings.this_session")) : null),
      h("p", { class: "hint" }, [when(one.seen_at), one.ip].filter(Boolean).join(" · "))),
    h("div", { class: "actions" }, h("button", { type: "button", class: "quiet", onclick: out(one), "aria-label": t("settings.end_session_name", { name: device(one.agent), when: when(one.created_at) }) }, t("settings.end_session"))));
  const here = ({ currentTarget }) => doing(currentTarget, said, async () => { await remove("/v1/sessions/current"); leave(); });
  const everywhere = ({ currentTarget }) => doing(currentTarget, said, async () => { await remove("/v1/sessions"); leave(); });
  return [said, h("ul", { class: "rows" }, sessions.map(row)),
    h("div", { class: "actions" }, h("button", { type: "button", onclick: here }, t("settings.sign_out")), h("button", { type: "button", class: "quiet", onclick: everywhere }, t("settings.sign_out_all")))];
}

/** A browser's way to name itself, in two words. */
function device(agent = "") {
  const browser = /(Firefox|Edg|OPR|Chrome|Safari)/.exec(agent ?? "")?.[1];
  const system = /(Android|iPhone|iPad|Windows|Mac OS|Linux)/.exec(agent ?? "")?.[1];
  const names = { Edg: "Edge", OPR: "Opera", "Mac OS": "macOS" };
  return [browser, system].filter(Boolean).map((name) => names[name] ?? name).join(", ") || t("settings.some_device");
}

function leave() {
  ended();
  go("/sign-in");
}

function yourData() {
  const said = h("div");
  const fetchAll = ({ currentTarget }) => doing(currentTarget, said, async () => {
    const told = await post("/v1/me/export");
    const link = h("a", { href: URL.createObjectURL(new Blob([JSON.stringify(told, null, 2)], { type: "application/json" })), download: "call-me-back.json" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60_000);
    say(t("settings.exported"));
  });
  return [h("p", {}, t("settings.data_text")), h("button", { type: "button", onclick: fetchAll }, t("settings.export")), said];
}

function erasing() {
  const open = () => dialog(t("erase.title"), (close) => {
    const send = async ({ password: given }) => {
      const receipt = await ask("DELETE", "/v1/me", { password: given });
      close();
      ended();
      go(receipt?.id ? `/erasures/${receipt.id}` : "/sign-up");
    };
    return form({ send, danger: true, action: t("erase.action"), secondary: h("button", { type: "button", onclick: close, autofocus: true }, t("dialog.keep")) },
      h("p", {}, t("erase.text")),
      field({ name: "password", type: "password", label: t("sign.password"), required: true, autocomplete: "current-password" }),
      field({ name: "certain", type: "checkbox", label: t("erase.certain"), required: true }));
  });
  return [h("p", {}, t("erase.lead", { since: day(session.me.created_at) })), h("button", { type: "button", class: "danger", onclick: open }, t("erase.ask"))];
}
