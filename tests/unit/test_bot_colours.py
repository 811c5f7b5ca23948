"""The sandbox page tells services apart by colour."""

import re
from itertools import combinations
from pathlib import Path

from shared.owners import OWNERS

PAGE = Path(__file__).parents[2] / "deploy/local/turnpike_local/sandbox/page/story.js"
CLEARLY_APART = 45
"""Degrees of the colour wheel."""


def test_every_service_has_a_colour_of_its_own_under_the_name_that_its_spans_bear() -> None:
    [table] = re.findall(r"const COLOURS = \{(.+?)\};", PAGE.read_text(), re.DOTALL)
    hues = {name: int(hue) for name, hue in re.findall(r'"([\w-]+)": (\d+)', table)}
    assert set(hues) == {f"turnpike-{owner}" for owner in OWNERS}
    assert all(
        CLEARLY_APART <= abs(one - other) <= 360 - CLEARLY_APART for one, other in combinations(hues.values(), 2)
    )
