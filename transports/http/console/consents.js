// What one agrees to: the server's own texts, word by word, since it is these that a consent is kept with.

import { get } from "./api.js";
import { field } from "./forms.js";
import { language, t } from "./i18n.js";

/** Without these nobody may be called. */
export const NEEDED = ["service", "calls"];
export const PURPOSES = [...NEEDED, "transcripts", "recording"];

let asked = null;

/** The text of each purpose in the language now spoken. */
export async function texts() {
  asked ??= get("/v1/consents").catch((error) => { asked = null; throw error; });
  const { items } = await asked;
  return Object.fromEntries(items.map(({ purpose, text }) => [purpose, text[language()] ?? text.en]));
}

/** A box for a purpose, with its text; those that calls need must be ticked. */
export function box(purpose, text) {
  return field({ name: purpose, type: "checkbox", label: text[purpose], required: NEEDED.includes(purpose), hint: t(`consent.${purpose}_hint`) });
}
