"""The sandbox page shows each service in its own colour."""

import re
from itertools import combinations
from pathlib import Path

from shared.contracts.owners import SERVICE_NAMES

PAGE = Path(__file__).parents[2] / "deploy/local/turnpike_local/sandbox/page/waterfall.js"
CLEARLY_APART = 45
"""Degrees of the colour wheel."""


def test_every_service_has_a_distinct_colour() -> None:
    """The keys of the table are the service names of the spans."""
    [table] = re.findall(r"const COLOURS = \{(.+?)\};", PAGE.read_text(), re.DOTALL)
    hues = {name: int(hue) for name, hue in re.findall(r'"([\w-]+)": (\d+)', table)}
    assert set(hues) == set(SERVICE_NAMES.values())
    assert all(
        CLEARLY_APART <= abs(one - other) <= 360 - CLEARLY_APART
        for one, other in combinations(hues.values(), 2)
    )
