// Looks at the page it is run in. `inspection.py` evaluates it; each function returns what is wrong, in words.
({
  /** Texts that are too faint against everything that may lie behind them (WCAG 2.2, 1.4.3). */
  contrast() {
    const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
    const rgba = (colour) => {
      canvas.clearRect(0, 0, 1, 1);
      canvas.fillStyle = colour;
      canvas.fillRect(0, 0, 1, 1);
      const [r, g, b, a] = canvas.getImageData(0, 0, 1, 1).data;
      return [r, g, b, a / 255];
    };
    const over = (top, under) => [0, 1, 2].map((at) => top[at] * top[3] + under[at] * (1 - top[3])).concat(1);
    const linear = (value) => (value <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4);
    const light = (colour) => {
      const [r, g, b] = colour.slice(0, 3).map((value) => linear(value / 255));
      return 0.2126 * r + 0.7152 * g + 0.0722 * b;
    };
    const ratio = (a, b) => {
      const [dark, bright] = [light(a), light(b)].sort((m, n) => m - n);
      return (bright + 0.05) / (dark + 0.05);
    };
    // From the root down; each stop of a gradient is a case of its own.
    const behind = (element) => {
      const chain = [];
      for (let at = element; at; at = at.parentElement) chain.unshift(at);
      let cases = [[255, 255, 255, 1]];
      for (const at of chain) {
        const style = getComputedStyle(at);
        cases = cases.map((under) => over(rgba(style.backgroundColor), under));
        const stops = style.backgroundImage.match(/(?:oklch|oklab|rgba?|color)\([^()]*\)/g) ?? [];
        if (stops.length) cases = cases.flatMap((under) => stops.map((stop) => over(rgba(stop), under)));
      }
      return cases;
    };
    const faint = (element) => {
      for (let at = element; at; at = at.parentElement) if (Number(getComputedStyle(at).opacity) < 1) return true;
      return false;
    };
    const found = [];
    const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
    while (walk.nextNode()) {
      const element = walk.currentNode.parentElement;
      const words = walk.currentNode.data.trim();
      if (!words || element.closest(".unseen, .skip, noscript, option, :disabled, svg")) continue;
      if (!element.checkVisibility() || faint(element)) continue;
      const style = getComputedStyle(element);
      const size = parseFloat(style.fontSize);
      const large = size >= 24 || (size >= 18.66 && Number(style.fontWeight) >= 700);
      for (const under of behind(element)) {
        const got = ratio(over(rgba(style.color), under), under);
        if (got < (large ? 3 : 4.5)) found.push(`${got.toFixed(2)}: ${words.slice(0, 40)} (${element.className})`);
      }
    }
    return [...new Set(found)];
  },

  /** Controls that are too low for a finger. */
  small(least) {
    return [...document.querySelectorAll("button, .button, select, nav a")]
      .filter((one) => one.checkVisibility() && one.getBoundingClientRect().height < least)
      .map((one) => one.innerText || one.name);
  },

  /** What sticks out to the right of the window. */
  wide() {
    const room = document.documentElement.clientWidth;
    const sticks = (one) => {
      const box = one.getBoundingClientRect();
      return box.width && box.right > room + 1 && !one.closest(".scroll, .unseen, .skip, svg") && one.checkVisibility();
    };
    const out = [...document.querySelectorAll("body *")].filter(sticks).map((one) => one.outerHTML.slice(0, 120));
    return document.documentElement.scrollWidth > room ? [...out, "the page scrolls sideways"] : out;
  },

  /** Ids that stand twice. */
  doubled() {
    const ids = [...document.querySelectorAll("[id]")].map((one) => one.id);
    return ids.filter((id, at) => ids.indexOf(id) !== at);
  },

  /** Whether what has the focus can be told from what has not. */
  ringed() {
    const at = document.activeElement;
    const ring = (one) => {
      const style = one && getComputedStyle(one);
      return Boolean(style) && style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2;
    };
    return at === document.body || ring(at) || ring(at.nextElementSibling);
  },

  /** Every address that the browser keeps for this page. */
  async kept() {
    const stores = await Promise.all((await caches.keys()).map((name) => caches.open(name)));
    const keys = await Promise.all(stores.map((store) => store.keys()));
    return keys.flat().map((one) => one.url);
  },
});
