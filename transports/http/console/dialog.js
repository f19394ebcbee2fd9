// Questions that must be answered first, and short words that something was done.

import { fill, h } from "./dom.js";
import { t } from "./i18n.js";

/**
 * Ask before something that cannot be undone.
 * @returns {Promise<boolean>} whether the person said yes; Escape says no
 */
export function sure({ title, text, action, danger = true }) {
  return new Promise((resolve) => {
    const close = (answer) => () => { box.close(answer); };
    const box = h("dialog", { "aria-labelledby": "asked", "aria-describedby": "asked-more" },
      h("h2", { id: "asked" }, title),
      h("p", { id: "asked-more" }, text),
      h("div", { class: "actions" },
        h("button", { type: "button", class: danger ? "danger" : "primary", onclick: close("yes") }, action),
        h("button", { type: "button", onclick: close("no"), autofocus: true }, t("dialog.keep"))));
    box.addEventListener("close", () => {
      box.remove();
      resolve(box.returnValue === "yes");
    });
    document.body.append(box);
    box.showModal();
  });
}

/** Show a form in a dialog. `build` gets a function that closes it. */
export function ask(title, build) {
  const box = h("dialog", { "aria-labelledby": "asked" }, h("h2", { id: "asked" }, title));
  box.append(build(() => box.close()));
  box.addEventListener("close", () => box.remove());
  document.body.append(box);
  box.showModal();
  return box;
}

let clearing = 0;

/** Say that something was done; it goes away by itself. */
export function say(words) {
  const place = document.getElementById("said");
  if (!place) return;
  fill(place, h("p", {}, words));
  clearTimeout(clearing);
  clearing = setTimeout(() => fill(place), 6000);
}
