// What stands around every view: the name, the menu, the places where things are said.

import { fill, h, icon } from "./dom.js";
import { t } from "./i18n.js";
import { session } from "./session.js";

const MENU = [
  ["/", "home", "phone"],
  ["/schedule", "schedule", "clock"],
  ["/personas", "personas", "people"],
  ["/calls", "history", "list"],
  ["/search", "search", "search"],
  ["/usage", "usage", "chart"],
  ["/payments", "payments", "card"],
  ["/settings", "settings", "settings"],
  ["/help", "help", "help"],
];
const FIRST = 4; // so many fit beside "more" at 360 px

/** Build the shell once; returns the place for views. */
export function build(root) {
  const main = h("main", { id: "main", tabindex: "-1" });
  const skip = h("a", { class: "skip", href: "#main", onclick: (event) => { event.preventDefault(); main.focus(); } });
  fill(root, skip, h("header", { id: "top" }), h("div", { id: "link", role: "status" }), main,
    h("div", { id: "said", role: "status", "aria-live": "polite" }));
  const link = () => online(navigator.onLine);
  window.addEventListener("online", link);
  window.addEventListener("offline", link);
  return main;
}

/** Say whether there is a network. */
function online(on) {
  fill(document.getElementById("link"), on ? null : h("p", {}, t("offline")));
}

/** Write the header and menu in the present language, for whoever is signed in. */
export function draw(nav) {
  document.querySelector(".skip").textContent = t("skip");
  const home = h("a", { class: "name", href: "#/" }, h("img", { src: "/console/icon.svg", alt: "", width: 30, height: 30 }), t("product"));
  fill(document.getElementById("top"), home, session.me ? menu(nav) : h("a", { class: "quiet", href: "#/help" }, t("nav.help")));
  document.body.classList.toggle("signed-in", Boolean(session.me));
}

function menu(now) {
  const entry = ([path, name, sign], at) =>
    h("li", { class: at >= FIRST ? "wide" : null },
      h("a", { href: `#${path}`, "aria-current": name === now ? "page" : null }, icon(sign), h("span", {}, t(`nav.${name}`))));
  const inMore = MENU.slice(FIRST).some(([, name]) => name === now) || now === "more";
  const more = h("li", { class: "small" },
    h("a", { href: "#/more", "aria-current": inMore ? "page" : null }, icon("more"), h("span", {}, t("nav.more"))));
  return h("nav", { "aria-label": t("nav.label") }, h("ul", {}, MENU.map(entry), more));
}

/** What the menu has no room for on a phone, as a page. */
export function more() {
  const rows = MENU.slice(FIRST).map(([path, name, sign]) =>
    h("li", {}, h("a", { href: `#${path}`, class: "row" }, icon(sign), h("span", {}, h("strong", {}, t(`nav.${name}`)), h("small", {}, t(`more.${name}`))))));
  return h("div", { class: "narrow" }, h("h1", {}, t("nav.more")), h("ul", { class: "rows" }, rows));
}
