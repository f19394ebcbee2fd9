// Plots drawn here: bars, as SVG. Each comes with the same figures as a table, for those who read tables or hear them.

import { h, s } from "./dom.js";

const HEIGHT = 180;
const BASE = 24; // room under the bars for their names

/**
 * Upright bars.
 * @param {{label: string, short?: string, value: number, shown: string}[]} rows
 * @param {string} title what a screen reader calls the picture
 */
export function columns(rows, title) {
  const most = Math.max(...rows.map((row) => row.value), 1e-9);
  const step = 100 / Math.max(rows.length, 7);
  const bars = rows.map((row, at) => {
    const tall = Math.max(row.value > 0 ? 2 : 0, (row.value / most) * (HEIGHT - BASE - 20));
    const x = at * step + step * 0.18;
    return s("rect", { class: "bar", x: `${x}%`, width: `${step * 0.64}%`, y: HEIGHT - BASE - tall, height: tall, rx: 3 }, s("title", {}, `${row.label}: ${row.shown}`));
  });
  const every = Math.ceil(rows.length / 6);
  const names = rows.map((row, at) => (at % every ? null : s("text", { x: `${at ? at * step + step / 2 : 0}%`, y: HEIGHT - 6, "text-anchor": at ? "middle" : "start" }, row.short ?? row.label)));
  const top = rows.findIndex((row) => row.value === most);
  const peak = rows[top] ? s("text", { class: "peak", x: `${top * step + step / 2}%`, y: 12, "text-anchor": top < 2 ? "start" : top > rows.length - 3 && rows.length > 6 ? "end" : "middle" }, rows[top].shown) : null;
  return s("svg", { class: "plot", width: "100%", height: HEIGHT, role: "img", "aria-label": title },
    s("line", { x1: 0, x2: "100%", y1: HEIGHT - BASE + 0.5, y2: HEIGHT - BASE + 0.5, class: "axis" }), bars, names, peak);
}

/** Lying bars with their names. */
export function lying(rows, title) {
  const most = Math.max(...rows.map((row) => row.value), 1e-9);
  const drawn = rows.map((row) => h("div", { class: "lying" },
    h("span", { class: "lying-name" }, row.label),
    s("svg", { width: "100%", height: 14, "aria-hidden": "true" }, s("rect", { class: "rail", width: "100%", height: 14, rx: 3 }), s("rect", { class: "bar", width: `${(row.value / most) * 100}%`, height: 14, rx: 3 })),
    h("span", { class: "lying-value" }, row.shown)));
  return h("div", { role: "group", "aria-label": title }, drawn);
}

/**
 * A table.
 * @param {(string|Node)[][]} rows the first of each names its row
 * @param {number} figures the first column of figures
 */
export function table(caption, heads, rows, figures = 1) {
  return h("div", { class: "scroll", tabindex: "0", role: "region", "aria-label": caption },
    h("table", {}, h("caption", { class: "unseen" }, caption),
      h("thead", {}, h("tr", {}, heads.map((head, at) => h("th", { scope: "col", class: at >= figures ? "number" : null }, head)))),
      h("tbody", {}, rows.map((row) => h("tr", {}, row.map((cell, at) => (at ? h("td", { class: at >= figures ? "number" : null }, cell) : h("th", { scope: "row" }, cell))))))));
}
