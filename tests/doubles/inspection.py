"""What every view owes to people who cannot see well, or not at all, or use no mouse; checked in the browser itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from playwright.async_api import Page

NAMED = frozenset({"button", "link", "textbox", "combobox", "checkbox", "switch", "searchbox", "spinbutton"})
LANDMARKS = frozenset({"banner", "main"})
LEAST_TAP = 40  # pixels of a button's height

SCRIPT = Path(__file__).with_suffix(".js").read_text().strip().rstrip(";")


async def look(page: Page, what: str, *given: Any) -> Any:
    """What one of the functions of `inspection.js` finds on the page."""
    words = ", ".join(json.dumps(one) for one in given)
    return await page.evaluate(f"{SCRIPT}.{what}({words})")


async def complaints(page: Page) -> list[str]:
    """What is wrong with the view that is shown; empty if nothing is."""
    nodes = await accessible(page)
    roles = {role for role, _ in nodes}
    headings = await page.locator("h1").count()
    return [
        *(f"a {role} has no name" for role, name in nodes if role in NAMED and not name.strip()),
        *(f"there is no {role}" for role in sorted(LANDMARKS - roles)),
        *([] if headings == 1 else [f"there are {headings} main headings"]),
        *(f"contrast {one}" for one in await look(page, "contrast")),
        *(f"small: {one}" for one in await look(page, "small", LEAST_TAP)),
        *(f"doubled id: {one}" for one in await look(page, "doubled")),
        *(["the page has no language"] if not await page.get_attribute("html", "lang") else []),
    ]


async def accessible(page: Page) -> list[tuple[str, str]]:
    """Role and name of all that assistive technology is told of."""
    client = await page.context.new_cdp_session(page)
    try:
        tree: dict[str, Any] = await client.send("Accessibility.getFullAXTree")
    finally:
        await client.detach()
    return [
        (str(node["role"]["value"]), str(node.get("name", {}).get("value", "")))
        for node in tree["nodes"]
        if not node.get("ignored") and "role" in node
    ]


async def too_wide(page: Page) -> list[str]:
    """What sticks out to the right; empty when nothing scrolls sideways."""
    return list(await look(page, "wide"))
