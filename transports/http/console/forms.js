// Forms: labelled fields, errors beside the field they are about, one sentence for the rest.

import { Refused } from "./api.js";
import { fill, h } from "./dom.js";
import { t } from "./i18n.js";
import { sentence, wayOn } from "./problems.js";

let made = 0;

/**
 * A field: its label, control, hint and place for an error.
 * @param {object} told `name`, `label`, `hint`, and the attributes of the control; `options` makes a select,
 *   `rows` a text area, `type: "checkbox"` a box before its label.
 */
export function field({ name, label, hint, options, type = "text", rows, counted, ...attributes }) {
  const id = `field-${++made}`;
  const described = [hint && `${id}-hint`, `${id}-error`].filter(Boolean).join(" ");
  const shared = { id, name, "aria-describedby": described, ...attributes };
  const control = options ? select(options, shared) : rows ? h("textarea", { rows, ...shared }) : h("input", { type, ...shared });
  const words = h("label", { for: id }, label, !attributes.required && type !== "checkbox" && attributes.optional !== false && !options
    ? h("span", { class: "optional" }, ` ${t("form.optional")}`) : null);
  const error = h("p", { id: `${id}-error`, class: "field-error", hidden: true });
  const help = hint ? h("p", { id: `${id}-hint`, class: "hint" }, hint) : null;
  const count = counted ? counter(control, attributes.maxlength) : null;
  const parts = type === "checkbox"
    ? [h("div", { class: "check" }, control, words), help, error]
    : [words, help, control, count, error];
  return h("div", { class: "field", "data-field": name }, parts);
}

function select(options, { value, ...attributes }) {
  const rows = options.map(([key, words]) => h("option", { value: key, selected: key === value }, words));
  return h("select", attributes, rows);
}

function counter(control, most) {
  const shown = h("p", { class: "hint count" });
  const count = () => { shown.textContent = t("form.count", { count: control.value.length, most }); };
  control.addEventListener("input", count);
  queueMicrotask(count);
  return shown;
}

/** Fields that belong together. */
export const group = (legend, ...children) => h("fieldset", {}, h("legend", {}, legend), children);

/**
 * A form. `send` gets what was filled in; what it throws is shown where it belongs.
 * @param {{send: Function, action: string, secondary?: Node, danger?: boolean, label?: string}} told
 */
export function form({ send, action, secondary, danger, label, compact }, ...fields) {
  const summary = h("div", { class: "notice bad", role: "alert", hidden: true });
  const button = h("button", { type: "submit", class: danger ? "danger" : "primary" }, action);
  const built = h("form", { novalidate: true, class: compact ? "compact" : null, "aria-label": label }, fields, summary,
    h("div", { class: "actions" }, button, secondary));
  built.addEventListener("submit", async (event) => {
    event.preventDefault();
    if (button.getAttribute("aria-disabled") === "true" || !valid(built)) return;
    clear(built, summary);
    busy(button, true);
    try {
      await send(values(built), built);
    } catch (error) {
      show(error, built, summary);
    } finally {
      busy(button, false);
    }
  });
  built.addEventListener("input", ({ target }) => { if (target.checkValidity?.()) complain(target, ""); });
  return built;
}

/** Run something a button does: busy meanwhile, its errors in `place`. */
export async function doing(button, place, work) {
  if (button.getAttribute("aria-disabled") === "true") return;
  busy(button, true);
  fill(place);
  try {
    await work();
  } catch (error) {
    fill(place, h("div", { class: "notice bad", role: "alert" }, h("p", {}, sentence(error)), wayOn(error)));
  } finally {
    busy(button, false);
  }
}

// Not `disabled`: that would drop the keyboard's focus to nowhere.
function busy(button, on) {
  button.setAttribute("aria-disabled", String(on));
  button.classList.toggle("busy", on);
}

/** What is filled in: text trimmed, boxes as true or false, what is empty left out; several of a name as a list. */
export function values(built) {
  const found = {};
  for (const control of built.elements) {
    if (!control.name || control.disabled) continue;
    if (control.type === "checkbox" && control.dataset.many) {
      found[control.name] ??= [];
      if (control.checked) found[control.name].push(control.value);
    } else if (control.type === "checkbox") found[control.name] = control.checked;
    else if (control.type === "radio") { if (control.checked) found[control.name] = control.value; }
    else if (control.type === "number") { if (control.value !== "") found[control.name] = Number(control.value); }
    else if (control.type === "password") found[control.name] = control.value;
    else if (control.value.trim() !== "") found[control.name] = control.value.trim();
  }
  return found;
}

function valid(built) {
  const wrong = [...built.elements].filter((control) => control.willValidate && !control.checkValidity());
  for (const control of built.elements) if (control.willValidate) complain(control, wrong.includes(control) ? reason(control) : "");
  wrong[0]?.focus();
  return wrong.length === 0;
}

function reason({ validity, type, minLength, maxLength, min, max, dataset }) {
  if (dataset.wrong && (validity.patternMismatch || validity.customError)) return t(dataset.wrong);
  if (validity.valueMissing) return t(type === "checkbox" ? "form.tick" : "form.missing");
  if (validity.typeMismatch && type === "email") return t("form.email");
  if (validity.tooShort) return t("form.short", { least: minLength });
  if (validity.tooLong) return t("form.long", { most: maxLength });
  if (validity.rangeUnderflow) return t("form.least", { least: min });
  if (validity.rangeOverflow) return t("form.most", { most: max });
  return t("form.wrong");
}

/** Say at a control what is wrong with it; nothing clears it. */
export function complain(control, words) {
  const place = document.getElementById(`${control.id}-error`);
  if (!place) return;
  place.textContent = words;
  place.hidden = !words;
  if (words) control.setAttribute("aria-invalid", "true");
  else control.removeAttribute("aria-invalid");
}

function clear(built, summary) {
  summary.hidden = true;
  for (const control of built.elements) if (control.id) complain(control, "");
}

function show(error, built, summary) {
  const control = error instanceof Refused && error.field ? built.elements.namedItem(error.field) : null;
  if (control instanceof Element) {
    complain(control, sentence(error));
    control.focus();
    return;
  }
  fill(summary, h("p", {}, sentence(error)), wayOn(error));
  summary.hidden = false;
}
