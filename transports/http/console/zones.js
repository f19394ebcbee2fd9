// Time zones by name.

import { zone } from "./format.js";

/** Every zone this browser knows, and the person's own, as options. */
export function zones() {
  const names = new Set([zone(), "UTC", ...(Intl.supportedValuesOf?.("timeZone") ?? [])]);
  return [...names].sort().map((name) => [name, name.replaceAll("_", " ")]);
}
