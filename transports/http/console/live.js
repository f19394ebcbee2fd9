// A call as it goes on: where it stands, how long, what it costs, what is said; hang up, or STOP for good.

import { all, follow, get, post, remove } from "./api.js";
import { say } from "./dialog.js";
import { fill, h, icon } from "./dom.js";
import { doing } from "./forms.js";
import { clockExact, fate, hue, length, money, monogram } from "./format.js";
import { t } from "./i18n.js";
import { costOf, priceNow } from "./prices.js";

export const LIVE = new Set(["created", "authorising", "dialing", "ringing", "in_progress", "ending"]);
const POLL_MS = 5000; // in case the stream of events is held up on its way
const TICK_MS = 500;
const SETTLED_MS = 30_000; // a call that takes longer to settle shows its cost in the history

/**
 * The card of a live call.
 * @param {object} call as the server tells it
 * @param {{over?: Function, title?: string}} told `over`: what is shown under it once the call has ended
 * @returns {{node: Element, stop: Function}}
 */
export function liveCall(call, { over, title = "h1" } = {}) {
  const card = new Card(call, over, title);
  return { node: card.node, stop: () => card.stop() };
}

class Card {
  constructor(call, over, title) {
    this.call = call;
    this.over = over;
    this.cost = call.cost_usd_micros;
    this.turns = new Map();
    this.build(title);
    this.stops = [];
    this.draw();
    if (LIVE.has(call.state)) this.watch();
    else this.end();
  }

  build(title) {
    const persona = this.call.persona ?? {};
    this.state = h("p", { class: "state", role: "status", "aria-live": "polite" });
    this.clock = h("dd", { class: "figure" });
    this.meter = h("dd", { class: "figure" });
    this.left = h("p", { class: "hint" });
    this.bar = h("progress", { max: 1, value: 0, "aria-label": t("live.used") });
    this.lines = h("ol", { class: "script", role: "log", "aria-live": "polite", "aria-relevant": "additions", "aria-label": t("live.transcript"), tabindex: "0" });
    this.said = h("div", { class: "said" });
    this.link = h("p", { class: "hint", role: "status" });
    this.actions = h("div", { class: "actions" },
      h("button", { type: "button", class: "danger hang-up", onclick: ({ currentTarget }) => this.hangUp(currentTarget) }, icon("end"), t("live.hang_up")),
      h("button", { type: "button", class: "stop", onclick: ({ currentTarget }) => this.never(currentTarget) }, t("live.stop")));
    this.node = h("section", { class: "live", "aria-labelledby": "live-title", style: { "--hue": hue(persona.id ?? "") } },
      h("div", { class: "live-head" },
        h("span", { class: "disc", "aria-hidden": "true" }, monogram(persona.name)),
        h("div", {}, h(title, { id: "live-title", tabindex: "-1" }, persona.name ?? t("live.title")), this.state),
        h("dl", { class: "figures" }, h("div", {}, h("dt", {}, t("live.time")), this.clock), h("div", {}, h("dt", {}, t("live.cost")), this.meter))),
      h("div", { class: "wire", "aria-hidden": "true" }),
      this.bar, this.left, this.actions, this.said, this.link,
      h("p", { class: "hint stop-hint" }, t("live.stop_hint")), this.lines);
  }

  watch() {
    const path = `/v1/calls/${this.call.id}`;
    const listeners = {
      state: (told) => this.moved(told),
      turn: (told) => this.turn(told),
      meter: (told) => this.metered(told),
    };
    const link = (on) => fill(this.link, on ? null : t("live.reconnecting"));
    this.stops.push(follow(`${path}/events`, listeners, link));
    const poll = setInterval(() => this.read(), POLL_MS);
    const tick = setInterval(() => this.count(), TICK_MS);
    this.stops.push(() => clearInterval(poll), () => clearInterval(tick));
    this.script();
    priceNow().then((price) => { this.price = price; this.count(); });
  }

  stop() {
    for (const end of this.stops.splice(0)) end();
  }

  async read() {
    try {
      this.moved(await get(`/v1/calls/${this.call.id}`));
    } catch { /* the next reading tells */ }
  }

  /** The call has changed; late news never brings it back to life. */
  moved(told) {
    const news = told?.call ?? told;
    if (!news?.state) return void this.read();
    const over = !LIVE.has(this.call.state);
    if (over && news.state !== this.call.state) return undefined;
    this.call = { ...this.call, ...news };
    this.cost = news.cost_usd_micros ?? this.cost;
    this.draw();
    if (!over && !LIVE.has(news.state)) this.end();
    if (!LIVE.has(news.state) && news.cost_usd_micros != null) this.stop(); // it is paid: nothing more will come
    return undefined;
  }

  /** The call is over; the stream goes on until it is settled, which may take a while. */
  end() {
    this.node.classList.add("over");
    for (const gone of [this.bar, this.left, this.node.querySelector(".stop-hint")]) gone.remove();
    fill(this.actions, this.over?.(this.call));
    const late = setTimeout(() => { this.stop(); this.read(); }, SETTLED_MS);
    this.stops.push(() => clearTimeout(late));
    this.script();
  }

  metered(told) {
    this.cost = told?.cost_usd_micros ?? this.cost;
    this.count();
  }

  async script() {
    try {
      for (const turn of await all(`/v1/calls/${this.call.id}/transcript`)) this.turn(turn);
    } catch { /* no transcript, or not yet; the stream brings it */ }
  }

  turn(told) {
    const turn = told?.turn ?? told;
    if (turn?.number === undefined) return void this.script();
    if (!turn.text) return undefined; // nothing of it was heard yet
    const shown = this.turns.get(turn.number);
    const built = line(turn, this.call);
    if (shown) shown.replaceWith(built);
    else this.insert(built, turn.number);
    this.turns.set(turn.number, built);
    built.scrollIntoView?.({ block: "nearest" });
    return undefined;
  }

  insert(built, number) {
    const after = [...this.turns.keys()].filter((other) => other > number).sort((a, b) => a - b)[0];
    this.lines.insertBefore(built, after === undefined ? null : this.turns.get(after));
  }

  draw() {
    const { state } = this.call;
    this.node.dataset.state = state;
    const words = LIVE.has(state) ? t(`state.${state}`) : fate(this.call);
    if (this.state.textContent !== words) this.state.textContent = words;
    this.count();
  }

  count() {
    const { answered_at: from, ended_at: until, max_minutes: most } = this.call;
    const seconds = from ? Math.max(0, (new Date(until ?? Date.now()) - new Date(from)) / 1000) : 0;
    this.clock.textContent = length(until && this.call.duration_seconds != null ? this.call.duration_seconds : seconds);
    const running = this.call.state === "in_progress" ? costOf(this.price, Math.max(1, seconds)) : 0; // until the server's next word
    this.meter.textContent = money(Math.max(this.cost ?? 0, running));
    this.bar.value = most ? Math.min(1, seconds / (most * 60)) : 0;
    if (until) return;
    this.left.textContent = t("live.limit", { left: length(most * 60 - seconds), hold: money(this.call.hold_usd_micros) });
  }

  hangUp(button) {
    doing(button, this.said, async () => {
      await remove(`/v1/calls/${this.call.id}`);
      await this.read();
    });
  }

  /** STOP: this number is not called again until its owner allows it, and the call ends. */
  never(button) {
    doing(button, this.said, async () => {
      const numbers = await all("/v1/numbers");
      const mine = numbers.find(({ number }) => tail(number) === tail(this.call.number)) ?? numbers.find(({ primary }) => primary) ?? numbers[0];
      if (mine) await post("/v1/opt-outs", { number: mine.id });
      await remove(`/v1/calls/${this.call.id}`);
      say(t("live.stopped"));
      await this.read();
    });
  }
}

/** What a masked number and the whole one share. */
const tail = (number) => (number ?? "").slice(-2);

/** One turn of a script: who, when, what. */
export function line({ who, text, at, timings }, call) {
  const name = who === "bot" ? call.persona?.name ?? t("live.title") : t("live.you");
  const slow = timings?.voice_to_voice_ms;
  return h("li", { class: who },
    h("p", { class: "who" }, h("strong", {}, name), h("time", { datetime: at }, clockExact(at))),
    h("p", { class: "words", title: slow ? t("live.answered_in", { ms: Math.round(slow) }) : null }, text));
}
