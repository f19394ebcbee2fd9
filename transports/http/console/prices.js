// What a call costs.

import { get } from "./api.js";

/** The price in force. */
export function currentPrice(prices) {
  const rows = prices?.items ?? [];
  return rows.find((row) => row.in_force) ?? null;
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
