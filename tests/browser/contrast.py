"""How well a reader sees each text and each field of a page, as a ratio of luminances (WCAG)."""

from pathlib import Path
from typing import TypedDict

from playwright.async_api import Page

LEAST = {"text": 4.5, "large": 3.0, "edge": 3.0}
"""A text is large from 24 px, or from 18.66 px in bold; an edge is the border of a field."""

SCRIPT = Path(__file__).with_suffix(".js").read_text()


class Fault(TypedDict):
    what: str
    ratio: float
    least: float


async def faults(page: Page, root: str) -> list[Fault]:
    """The texts and fields within `root` (a selector) that are too faint."""
    await page.evaluate("document.getAnimations().forEach((one) => one.finish())")
    script = f"([root, least]) => {{ {SCRIPT} return faultsIn(root, least); }}"
    found: list[Fault] = await page.evaluate(script, [root, LEAST])
    return found


async def ring(page: Page) -> float:
    """The contrast of the ring around the focused element; 1 without a ring."""
    return float(await page.evaluate(f"() => {{ {SCRIPT} return ringOfFocus(); }}"))
