// Building the page: elements without markup strings, so that nobody's words can become markup.

const SVG = "http://www.w3.org/2000/svg";

/** An element. `on…` are listeners, `style` sets custom properties, null and false are left out. */
export function h(tag, attributes, ...children) {
  return filled(document.createElement(tag), attributes, children);
}

/** An SVG element. */
export function s(tag, attributes, ...children) {
  return filled(document.createElementNS(SVG, tag), attributes, children);
}

function filled(made, attributes, children) {
  const { value, style, ...rest } = attributes ?? {};
  for (const [name, given] of Object.entries(rest)) {
    if (given === undefined || given === null || given === false) continue;
    if (name.startsWith("on")) made.addEventListener(name.slice(2), given);
    else made.setAttribute(name, given === true ? "" : given);
  }
  for (const [name, given] of Object.entries(style ?? {})) made.style.setProperty(name, given);
  made.append(...present(children));
  if (value !== undefined && value !== null) made.value = value; // last: a select needs its options first
  return made;
}

/** What of the children is there to be shown. */
export function present(children) {
  return children.flat(Infinity).filter((child) => child !== null && child !== undefined && child !== false);
}

/** Show these children instead of what an element held. */
export function fill(element, ...children) {
  element.replaceChildren(...present(children));
  return element;
}

const PATHS = {
  phone: "M7 3.5 9.5 9 7.2 10.7c1.1 2.7 3.3 4.9 6 6L15 14.5l5.5 2.5c-.2 2.4-1.6 3.8-4 3.5C9 19.5 4.5 15 3.5 7.5 3.2 5.1 4.6 3.7 7 3.5Z",
  clock: "M12 21a9 9 0 1 0 0-18 9 9 0 0 0 0 18ZM12 7v5.2l3.4 2",
  people: "M9 11.5a3.5 3.5 0 1 0 0-7 3.5 3.5 0 0 0 0 7ZM2.5 20c.3-3.6 2.9-5.7 6.5-5.7s6.2 2.1 6.5 5.7M16 4.8a3.5 3.5 0 0 1 0 6.4M17.8 14.7c2.2.8 3.5 2.6 3.7 5.3",
  list: "M8.5 6h12M8.5 12h12M8.5 18h12M4 6h.01M4 12h.01M4 18h.01",
  search: "M10.5 17.5a7 7 0 1 0 0-14 7 7 0 0 0 0 14ZM15.6 15.6l5 5",
  chart: "M4 20.5V11M10 20.5V4M16 20.5v-7M21.5 20.5h-19",
  card: "M3 7.5C3 6.1 4.1 5 5.5 5h13C19.9 5 21 6.1 21 7.5v9c0 1.4-1.1 2.5-2.5 2.5h-13A2.5 2.5 0 0 1 3 16.5v-9ZM3 10h18M6.5 15H10",
  settings: "M4 7h9M17 7h3M4 17h3M11 17h9M15 9.2a2.2 2.2 0 1 0 0-4.4 2.2 2.2 0 0 0 0 4.4ZM9 19.2a2.2 2.2 0 1 0 0-4.4 2.2 2.2 0 0 0 0 4.4Z",
  help: "M12 20.5s-8-4.7-8-10.6C4 7.2 6 5.3 8.3 5.3c1.6 0 3 .9 3.7 2.3.7-1.4 2.1-2.3 3.7-2.3 2.3 0 4.3 1.9 4.3 4.6 0 5.9-8 10.6-8 10.6Z",
  more: "M5 12h.01M12 12h.01M19 12h.01",
  plus: "M12 5v14M5 12h14",
  star: "m12 3.8 2.5 5.2 5.7.8-4.1 4 1 5.7-5.1-2.7-5.1 2.7 1-5.7-4.1-4 5.7-.8L12 3.8Z",
  end: "M3 14.5c5.5-5 12.5-5 18 0l-2.2 2.3-3.6-1.3v-2.8c-2.1-.6-4.3-.6-6.4 0v2.8l-3.6 1.3L3 14.5Z",
  back: "m14.5 5-7 7 7 7",
};

/** A line icon; it says nothing to a screen reader, so its button needs words. */
export function icon(name) {
  const drawn = s("path", { d: PATHS[name] });
  return s("svg", { viewBox: "0 0 24 24", class: "icon", "aria-hidden": "true", focusable: "false" }, drawn);
}
