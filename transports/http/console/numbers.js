// Phone numbers as people write them, and as the server wants them.

import { field } from "./forms.js";
import { t } from "./i18n.js";

/** A number in E.164: signs that only help the eye are dropped, a leading 00 is a plus. */
export function tidy(written) {
  const bare = written.replace(/[\s().\-/]/g, "");
  return bare.startsWith("00") ? `+${bare.slice(2)}` : bare;
}

/** The field for one's own number. */
export function numberField(attributes = {}) {
  return field({
    name: "number", type: "tel", label: t("number.label"), hint: t("number.hint"), required: true, autocomplete: "tel",
    inputmode: "tel", pattern: "(\\+|00)[\\d\\s\\(\\)\\.\\/\\-]{7,24}", maxlength: 28, placeholder: "+1 555 010 0123", "data-wrong": "number.wrong", ...attributes,
  });
}
