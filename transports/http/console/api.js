// Talking with the server. A session that ran out is renewed once, unseen; every refusal is one of two errors.

import { began, ended } from "./session.js";

const SAFE = new Set(["GET", "HEAD"]);
const RENEWED = "renewed";
const SIGNED_OUT = new EventTarget();

/** The server said no: `kind` names why for programs, `detail` for people. */
export class Refused extends Error {
  constructor(status, problem, retryAfter) {
    super(problem.detail || problem.title || String(status));
    this.status = status;
    this.kind = (problem.type ?? "").split("/").pop() || "unknown";
    this.detail = problem.detail ?? "";
    this.retryAfter = Number(retryAfter) || 0;
    this.field = problem.field ?? null;
    this.problem = problem;
  }
}

/** No answer came: there is no network, or nobody listens there. */
export class Unreachable extends Error {}

/** Be told when a session has ended and cannot be renewed. */
export const onSignedOut = (listener) => SIGNED_OUT.addEventListener("out", listener);

/**
 * Ask the server.
 * @param {string} method
 * @param {string} path from /v1 on
 * @param {object=} body sent as JSON
 * @param {{key?: string, open?: boolean}=} options `key`: the same key asks for the same thing; `open`: needs no session
 */
export async function ask(method, path, body, options = {}) {
  const sent = Date.now();
  let answer = await request(method, path, body, options);
  if (answer.status === 401 && !options.open) {
    const refused = await refusal(answer);
    if (refused.kind !== "not-authorised") throw refused; // a code or a password, not the session
    if (!(await renew(sent))) {
      ended();
      SIGNED_OUT.dispatchEvent(new Event("out"));
      throw refused;
    }
    answer = await request(method, path, body, options);
  }
  if (!answer.ok) throw await refusal(answer);
  if (answer.status === 204) return null;
  const text = await answer.text();
  return text ? JSON.parse(text) : null;
}

export const get = (path, query) => ask("GET", path + search(query));
export const post = (path, body, options) => ask("POST", path, body ?? {}, options);
export const patch = (path, body) => ask("PATCH", path, body);
export const put = (path, body) => ask("PUT", path, body ?? {});
export const remove = (path, body) => ask("DELETE", path, body);

/** What is no JSON, such as a sound. */
export async function fetched(path) {
  const sent = Date.now();
  let answer = await request("GET", path, undefined, {});
  if (answer.status === 401 && (await renew(sent))) answer = await request("GET", path, undefined, {});
  if (!answer.ok) throw await refusal(answer);
  return answer.blob();
}

/** Every item of a list that comes in pages. For lists that are short by nature. */
export async function all(path, query = {}) {
  const items = [];
  let after = null;
  do {
    const page = await get(path, { ...query, after });
    items.push(...page.items);
    after = page.next ?? null;
  } while (after && items.length < 1000);
  return items;
}

/** A query string of what is given. */
export function search(query = {}) {
  const given = Object.entries(query).filter(([, value]) => value !== undefined && value !== null && value !== "");
  return given.length ? `?${new URLSearchParams(given)}` : "";
}

/** A key under which the server does a thing once, however often it is asked. */
export const onceKey = () => crypto.randomUUID?.() ?? `${Date.now()}-${Math.random().toString(16).slice(2)}`;

async function request(method, path, body, options) {
  const headers = { Accept: "application/json" };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  if (!SAFE.has(method)) headers["X-CSRF"] = cookie("ringdown_csrf");
  if (options.key) headers["Idempotency-Key"] = options.key;
  try {
    return await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  } catch (error) {
    throw new Unreachable(error.message, { cause: error });
  }
}

async function refusal(answer) {
  let problem = {};
  try {
    problem = await answer.json();
  } catch { /* something before the server answered, in its own words */ }
  return new Refused(answer.status, problem, answer.headers.get("Retry-After"));
}

/**
 * A fresh access token. A refresh token works once, and a second use ends the session: so one tab of the browser
 * renews while the others wait, and none renews what another has renewed since `sent`.
 */
export async function renew(sent = 0) {
  return exclusively(async () => {
    if (sent && Number(localStorage.getItem(RENEWED)) >= sent) return true;
    const answer = await request("POST", "/v1/sessions/refresh", {}, {});
    if (answer.status >= 500 || answer.status === 429) throw await refusal(answer); // it may still be good
    if (!answer.ok) return false;
    localStorage.setItem(RENEWED, String(Date.now()));
    began(await answer.json());
    return true;
  });
}

const exclusively = (work) => (navigator.locks ? navigator.locks.request("ringdown-renew", work) : work());

/** A cookie that scripts may read. */
export function cookie(name) {
  const found = document.cookie.split("; ").find((pair) => pair.startsWith(`${name}=`));
  return found ? decodeURIComponent(found.slice(name.length + 1)) : "";
}

/**
 * Follow a call's events until told to stop. A stream that breaks is opened anew, with a fresh session if need be.
 * @returns a function that stops it
 */
export function follow(path, listeners, onLink = () => {}) {
  let source = null;
  let stopped = false;
  let waiting = 0;
  const open = () => {
    if (stopped) return;
    source = new EventSource(path);
    source.onopen = () => onLink(true);
    source.onerror = () => {
      onLink(false);
      if (source.readyState !== EventSource.CLOSED || stopped) return; // else the browser tries again by itself
      renew().catch(() => true).then((good) => {
        if (good) waiting = setTimeout(open, 1500);
      });
    };
    for (const [name, listener] of Object.entries(listeners)) {
      source.addEventListener(name, (event) => listener(event.data ? JSON.parse(event.data) : null));
    }
  };
  open();
  return () => {
    stopped = true;
    clearTimeout(waiting);
    source?.close();
  };
}
