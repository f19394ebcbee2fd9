// Days in a time zone, as moments.

/** The moment at which a calendar day (2026-11-22), or one `days` later, begins in a zone. */
export function midnight(day, zone, days = 0) {
  const utc = Date.parse(`${day}T00:00:00Z`) + days * 86_400_000;
  let guess = utc;
  for (let round = 0; round < 3; round += 1) guess = utc - ahead(guess, zone); // the offset may differ on either side
  return new Date(guess).toISOString();
}

/** By how many milliseconds a zone's clocks are ahead of UTC at a moment. */
function ahead(moment, zone) {
  const options = { timeZone: zone, hourCycle: "h23", year: "numeric", month: "numeric", day: "numeric", hour: "numeric", minute: "numeric", second: "numeric" };
  const told = Object.fromEntries(new Intl.DateTimeFormat("en", options).formatToParts(new Date(moment)).map(({ type, value }) => [type, Number(value)]));
  return Date.UTC(told.year, told.month - 1, told.day, told.hour, told.minute, told.second) - Math.floor(moment / 1000) * 1000;
}
