// Coming in: sign in, sign up, a forgotten password.

import { get, post } from "../api.js";
import { PURPOSES, box, texts } from "../consents.js";
import { say } from "../dialog.js";
import { h } from "../dom.js";
import { field, form } from "../forms.js";
import { LANGUAGES, language, speak, t } from "../i18n.js";
import { go } from "../router.js";
import { began, session } from "../session.js";

const email = (value) => field({ name: "email", type: "email", label: t("sign.email"), autocomplete: "email", required: true, maxlength: 254, inputmode: "email", value });
const password = (fresh, name = "password") => field({
  name, type: "password", label: t(fresh ? "sign.new_password" : "sign.password"), required: true,
  autocomplete: fresh ? "new-password" : "current-password", hint: fresh ? t("sign.password_hint") : null,
  minlength: fresh ? 10 : null, maxlength: 200,
});

/** Sign in; leads on to where the person was going. */
export async function signIn({ query, again }) {
  const next = query.get("next") ?? "/";
  const factor = field({ name: "code", label: t("sign.code"), hint: t("sign.code_hint"), inputmode: "numeric", autocomplete: "one-time-code", class: "code", maxlength: 10, optional: false });
  factor.hidden = true; // until the server asks for it
  const send = async (given) => {
    try {
      began(await post("/v1/sessions", given, { open: true }));
    } catch (error) {
      if (error.kind?.startsWith("second-factor")) {
        factor.hidden = false;
        factor.querySelector("input").focus();
      }
      throw error;
    }
    await speak(session.me.language);
    go(next.startsWith("/") ? next : "/");
  };
  const forgotten = h("a", { href: "#/forgot" }, t("sign.forgot"));
  return door(t("sign.in"), again,
    form({ send, action: t("sign.in"), secondary: forgotten }, email(), password(false), factor),
    await others(),
    h("p", { class: "aside" }, t("sign.no_account"), " ", h("a", { href: "#/sign-up" }, t("sign.up"))));
}

/** Sign up: an account for an adult who agrees to be called. */
export async function signUp({ again }) {
  const text = await texts();
  const send = async ({ adult, service, calls, transcripts, recording, ...given }) => {
    const zone = Intl.DateTimeFormat().resolvedOptions().timeZone;
    const consents = { service, calls, transcripts, recording };
    began(await post("/v1/accounts", { ...given, zone, language: language(), adult, consents }, { open: true }));
    go("/welcome");
  };
  return door(t("sign.up"), again,
    form({ send, action: t("sign.create") },
      field({ name: "name", label: t("sign.name"), autocomplete: "given-name", maxlength: 60, hint: t("sign.name_hint") }),
      email(), password(true),
      field({ name: "adult", type: "checkbox", label: t("consent.adult"), required: true }),
      PURPOSES.map((purpose) => box(purpose, text))),
    await others(),
    h("p", { class: "aside" }, t("sign.has_account"), " ", h("a", { href: "#/sign-in" }, t("sign.in"))));
}

/** Ask for a letter with a link that sets a new password. */
export async function forgot({ again }) {
  const sent = h("p", { class: "notice good", role: "status", hidden: true }, t("forgot.sent"));
  const send = async (given, built) => {
    await post("/v1/password-resets", given, { open: true });
    built.hidden = true;
    sent.hidden = false;
  };
  return door(t("forgot.title"), again,
    h("p", {}, t("forgot.text")), sent,
    form({ send, action: t("forgot.send") }, email()),
    h("p", { class: "aside" }, h("a", { href: "#/sign-in" }, t("sign.back"))));
}

/** Set a new password with the code or link that came by mail. */
export async function reset({ params, again }) {
  const code = params.token && decodeURIComponent(params.token);
  const send = async ({ token, password: chosen }) => {
    await post("/v1/password-resets/complete", { token: code ?? token, password: chosen }, { open: true });
    say(t("reset.done"));
    go("/sign-in");
  };
  const typed = code ? null : field({ name: "token", label: t("reset.token"), required: true, autocomplete: "one-time-code" });
  return door(t("reset.title"), again, form({ send, action: t("reset.action") }, typed, password(true)));
}

/** Other ways to say who one is, as far as this server knows any. */
async function others() {
  const { items = [] } = await get("/v1/oidc").catch(() => ({}));
  if (!items.length) return null;
  const buttons = items.map((one) => {
    return h("a", { class: "button", href: `/v1/oidc/${encodeURIComponent(one.provider)}/start` }, t("sign.with", { name: one.title }));
  });
  return h("div", { class: "others" }, h("p", { class: "hint" }, t("sign.or")), buttons);
}

function door(title, again, ...rest) {
  const pick = async ({ target }) => { await speak(target.value); again(); };
  const options = Object.entries(LANGUAGES).map(([key, words]) => h("option", { value: key, selected: key === language(), lang: key }, words));
  return h("div", { class: "door" },
    h("div", { class: "promise" },
      h("p", { class: "eyebrow" }, t("product")),
      h("p", { class: "motto" }, t("sign.motto")),
      h("p", {}, t("sign.promise")),
      h("label", { class: "tongue" }, h("span", {}, t("sign.language")), h("select", { onchange: pick }, options))),
    h("div", { class: "sheet" }, h("h1", {}, title), rest));
}
