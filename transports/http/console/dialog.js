// Questions that must be answered first, and short words that something was done.

import { fill, h } from "./dom.js";
import { t } from "./i18n.js";

/**
 * Ask before something that cannot be undone.
 * @returns {Promise<"yes"|"other"|false>} what the person said; Escape says no
 */
export function sure({ title, text, action, other, danger = true }) {
  return new Promise((resolve) => {
    const close = (answer) => () => { box.close(answer); };
    const box = h("dialog", { "aria-labelledby": "asked", "aria-describedby": "asked-more" },
      h("h2", { id: "asked" }, title),
      h("p", { id: "asked-more" }, text),
      h("div", { class: "actions" },
        h("button", { type: "button", class: danger ? "danger" : "primary", onclick: close("yes") }, action),
        other ? h("button", { type: "button", class: "quiet danger", onclick: close("other") }, other) : null,
        h("button", { type: "button", onclick: close(""), autofocus: true }, t("dialog.keep"))));
    box.addEventListener("close", () => {
      box.remove();
      resolve(box.returnValue || false);
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
