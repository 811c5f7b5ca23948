"""The floor of `make bench` writes what the shop writes."""

import pytest

from tests.load import __main__ as bench
from tests.load import floor, pipeline


async def test_the_floor_writes_the_shops_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    """A row that the floor leaves out would make the shop look slow, and a new one the reverse."""
    monkeypatch.setattr(bench, "WARM_UP", 20)
    shop = await bench.drained(pipeline.start_pipeline, 60)
    least = await bench.drained(floor.start_floor, 60)
    assert shop.gained == least.gained
    assert least.gained["payments.receipts"] == 60
