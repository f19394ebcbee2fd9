// Which view an address shows. The address after `#` never leaves the browser.

const routes = [];

/**
 * Tell which view a path shows; `:name` stands for one part of it.
 * @param {string} path such as /calls/:call
 * @param {Function} view gets a place and returns an element
 * @param {{open?: boolean, nav?: string}} told `open`: shown to everybody; `nav`: the entry of the menu it belongs to
 */
export function route(path, view, told = {}) {
  const names = [];
  const pattern = path.replace(/:(\w+)/g, (_, name) => { names.push(name); return "([^/]+)"; });
  routes.push({ pattern: new RegExp(`^${pattern}$`), names, view, ...told });
}

/** What the address asks for; null where there is no such view. */
export function asked() {
  const [path, query = ""] = (location.hash.slice(1) || "/").split("?");
  const whole = path.startsWith("/") ? path : `/${path}`;
  for (const { pattern, names, ...rest } of routes) {
    const found = pattern.exec(whole);
    if (!found) continue;
    const params = Object.fromEntries(names.map((name, at) => [name, encodeURIComponent(plain(found[at + 1]))]));
    return { ...rest, path: whole, params, query: new URLSearchParams(query) };
  }
  return null;
}

function plain(part) {
  try {
    return decodeURIComponent(part);
  } catch {
    return part; // no encoding at all; the server will not know it
  }
}

/** Go somewhere; the view follows. */
export function go(path) {
  if (location.hash.slice(1) === path) window.dispatchEvent(new HashChangeEvent("hashchange"));
  else location.hash = path;
}
