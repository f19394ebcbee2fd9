// Begins the console: who is signed in, which view is asked for, and what is in the way of it.

import { get, onSignedOut, renew } from "./api.js";
import { fill, h } from "./dom.js";
import { speak, t } from "./i18n.js";
import { failed } from "./problems.js";
import { asked, go, route } from "./router.js";
import { session } from "./session.js";
import { build, draw, more } from "./shell.js";
import { callDetail } from "./views/call.js";
import { help } from "./views/help.js";
import { history } from "./views/history.js";
import { home, ringAtOnce } from "./views/home.js";
import { payments } from "./views/payments.js";
import { persona } from "./views/persona.js";
import { personas } from "./views/personas.js";
import { book } from "./views/book.js";
import { schedule } from "./views/schedule.js";
import { searching } from "./views/search.js";
import { settings } from "./views/settings.js";
import { erasure } from "./views/erasure.js";
import { forgot, reset, signIn, signUp } from "./views/sign.js";
import { usage } from "./views/usage.js";
import { welcome } from "./views/welcome.js";

route("/", home, { nav: "home" });
route("/welcome", welcome, { nav: "home" });
route("/schedule", schedule, { nav: "schedule" });
route("/schedule/new", book, { nav: "schedule" });
route("/schedule/:scheduled", book, { nav: "schedule" });
route("/personas", personas, { nav: "personas" });
route("/personas/new", persona, { nav: "personas" });
route("/personas/:persona", persona, { nav: "personas" });
route("/calls", history, { nav: "history" });
route("/calls/:call", callDetail, { nav: "history" });
route("/search", searching, { nav: "search" });
route("/usage", usage, { nav: "usage" });
route("/payments", payments, { nav: "payments" });
route("/settings", settings, { nav: "settings" });
route("/help", help, { nav: "help", open: true });
route("/more", more, { nav: "more" });
route("/sign-in", signIn, { open: true, door: true });
route("/sign-up", signUp, { open: true, door: true });
route("/forgot", forgot, { open: true, door: true });
route("/reset", reset, { open: true });
route("/reset/:token", reset, { open: true }); // as the letter says
route("/erasures/:erasure", erasure, { open: true });

const RENEW_BEFORE_MS = 60_000;
const SLOW_MS = 250;
const SHORTCUT = location.pathname === "/call-me"; // the server lets no other site lead here
const main = build(document.getElementById("app"));
let leave = [];
let showing = 0;

/** Show what the address asks for. */
async function show({ first = false } = {}) {
  const turn = ++showing;
  for (const end of leave.splice(0)) end();
  const found = asked();
  if (!found) return go(session.me ? "/" : "/sign-in");
  if (!session.me && !found.open) return go(`/sign-in?next=${encodeURIComponent(location.hash.slice(1))}`);
  if (session.me && found.door) return go("/");
  draw(found.nav);
  main.setAttribute("aria-busy", "true");
  const slow = setTimeout(() => fill(main, h("p", { class: "waiting" }, t("waiting"))), SLOW_MS);
  const leaving = [];
  let shown;
  try {
    const place = { params: found.params, query: found.query, leaving: (end) => leaving.push(end), again: () => show() };
    shown = await (first && SHORTCUT ? ringAtOnce : found.view)(place);
  } catch (error) {
    if (error.status === 401) shown = null; // signed out meanwhile; the listener below leads on
    else shown = failed(error, () => show());
  }
  clearTimeout(slow);
  if (turn !== showing || !shown) {
    for (const end of leaving) end();
    return undefined;
  }
  leave = leaving;
  fill(main, shown);
  main.removeAttribute("aria-busy");
  name(first);
  return undefined;
}

/** Give the document the view's name, and bring the reader to its beginning. */
function name(first) {
  const title = main.querySelector("h1");
  document.title = title ? `${title.textContent} · ${t("product")}` : t("product");
  if (first || !title) return;
  title.tabIndex = -1;
  title.focus({ preventScroll: true });
  window.scrollTo(0, 0);
}

async function begin() {
  await speak();
  try {
    session.me = await get("/v1/me");
    await speak(session.me.language);
  } catch (error) {
    if (error.status !== 401) {
      draw();
      fill(main, failed(error, () => location.reload()));
      return;
    }
  }
  if (SHORTCUT) window.history.replaceState(null, "", "/#/"); // loading the page again must not ring again
  onSignedOut(() => go("/sign-in"));
  window.addEventListener("hashchange", () => show());
  await show({ first: true });
  setInterval(keep, RENEW_BEFORE_MS / 2);
  if ("serviceWorker" in navigator) navigator.serviceWorker.register("/console/sw.js", { scope: "/" }).catch(() => {});
}

/** Renew the session before it runs out, so that nobody waits for it. */
function keep() {
  const due = session.me && session.expires && session.expires - Date.now() < RENEW_BEFORE_MS;
  if (due && document.visibilityState === "visible") renew(Date.now() - RENEW_BEFORE_MS).catch(() => {});
}

begin();
