// Book a call for later, once or again and again; or change one that is booked.

import { all, get, onceKey, patch, post } from "../api.js";
import { say } from "../dialog.js";
import { h } from "../dom.js";
import { field, form, group } from "../forms.js";
import { away, when, zone } from "../format.js";
import { t } from "../i18n.js";
import { go } from "../router.js";
import { zones } from "../zones.js";

const DAYS = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const SPACING = [5, 10, 15, 30, 60];

/** The form of a new booking, or of the one in the address. */
export async function book({ params, query }) {
  const [people, numbers, known] = await Promise.all([
    all("/v1/personas"), all("/v1/numbers"), params.scheduled ? get(`/v1/scheduled-calls/${params.scheduled}`) : null]);
  const key = onceKey();
  const send = async (filled) => {
    const body = booking(filled);
    const kept = known ? await patch(`/v1/scheduled-calls/${known.id}`, body) : await post("/v1/scheduled-calls", body, { key });
    say(t("book.done", { when: when(kept.due_at), away: away(kept.due_at) }));
    go("/schedule");
  };
  const proven = numbers.filter((number) => number.verified_at);
  const built = form({ send, action: t(known ? "book.change" : "book.action"), secondary: h("a", { class: "button", href: "#/schedule" }, t("dialog.cancel")) },
    field({ name: "persona", label: t("book.persona"), options: people.map((one) => [one.id, one.name]), value: known?.persona?.id ?? query.get("persona") ?? people[0]?.id }),
    h("div", { class: "pair" },
      field({ name: "at", type: "datetime-local", label: t("book.at"), required: true, value: known?.local?.slice(0, 16) ?? tomorrow(), min: soon() }),
      field({ name: "zone", label: t("book.zone"), options: zones(), value: known?.zone ?? zone() })),
    field({ name: "max_minutes", type: "number", label: t("book.max_minutes"), min: 1, max: 60, required: true, value: known?.max_minutes ?? 15, inputmode: "numeric", hint: t("book.max_minutes_hint") }),
    proven.length > 1 ? field({ name: "number", label: t("book.number"), options: proven.map((one) => [one.id, one.number]), value: known?.number?.id ?? proven.find((one) => one.primary)?.id }) : null,
    repeating(known?.repeat),
    retrying(known?.retries),
    field({ name: "outside_hours", type: "checkbox", label: t("book.outside_hours"), hint: t("book.outside_hours_hint") }));
  return h("div", { class: "narrow" },
    h("p", { class: "crumb" }, h("a", { href: "#/schedule" }, t("nav.schedule"))),
    h("h1", {}, t(known ? "book.change_title" : "book.title")),
    h("p", { class: "lead" }, t("book.lead")), built);
}

/** What the form's fields ask for. */
function booking({ every, days, until, retry, spacing, ...body }) {
  body.repeat = every === "never" ? null : { every, ...(every === "week" && days?.length ? { days } : {}), ...(until ? { until } : {}) };
  const times = Number(retry);
  body.retries = times ? { busy: times, no_answer: times, voicemail: 0, spacing_minutes: Number(spacing) } : null;
  return body;
}

function repeating(repeat) {
  const days = h("fieldset", { class: "days" }, h("legend", {}, t("book.days")),
    DAYS.map((name) => h("label", {}, h("input", { type: "checkbox", name: "days", value: name, "data-many": "yes", checked: repeat?.days?.includes(name) }), h("span", {}, t(`day.${name}`)))));
  const until = field({ name: "until", type: "date", label: t("book.until"), value: repeat?.until });
  const show = (every) => {
    days.hidden = days.disabled = every !== "week";
    until.hidden = every === "never";
  };
  const every = field({ name: "every", label: t("book.repeat"), options: ["never", "day", "week", "month"].map((name) => [name, t(`repeat.${name}`)]), value: repeat?.every ?? "never", onchange: ({ target }) => show(target.value) });
  show(repeat?.every ?? "never");
  return [every, days, until];
}

function retrying(retries) {
  const options = [0, 1, 2].map((count) => [String(count), t(`book.retry_${count}`)]);
  return group(t("book.retries"),
    h("div", { class: "pair" },
      field({ name: "retry", label: t("book.retry"), options, value: String(retries?.no_answer ?? 0) }),
      field({ name: "spacing", label: t("book.spacing"), options: SPACING.map((count) => [String(count), t("book.spacing_after", { count })]), value: String(retries?.spacing_minutes ?? 10) })));
}

/** Nine o'clock tomorrow, as the field wants it. */
function tomorrow() {
  const at = new Date();
  at.setDate(at.getDate() + 1);
  at.setHours(9, 0, 0, 0);
  return local(at);
}

// The zone may be another than this device's: a day of slack, the server knows better.
const soon = () => local(new Date(Date.now() - 86_400_000));
const local = (at) => new Date(at.getTime() - at.getTimezoneOffset() * 60_000).toISOString().slice(0, 16);
