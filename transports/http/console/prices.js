// What a call costs.

import { get } from "./api.js";

/** The price in force: the newest whose time has come. */
export function currentPrice(prices) {
  const rows = prices?.items ?? (Array.isArray(prices) ? prices : prices ? [prices] : []);
  const now = new Date().toISOString();
  return rows.filter((row) => !row.since || row.since <= now).sort((a, b) => (b.since ?? "").localeCompare(a.since ?? ""))[0] ?? null;
}

/** What so many connected seconds cost. */
export function costOf(price, seconds) {
  return price && seconds > 0 ? price.call_usd_micros + price.minute_usd_micros * Math.ceil(seconds / 60) : 0;
}

let asked = null;

/** The price in force now, asked for once. */
export function priceNow() {
  asked ??= get("/v1/prices").then(currentPrice).catch(() => { asked = null; return null; });
  return asked;
}
