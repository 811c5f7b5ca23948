"""Parameters that are amounts of money, as people type them: `149`, or `149.50` with kopecks."""

import re
from datetime import UTC, datetime
from typing import Any

import click

from shared.contracts.money import MINOR_DIGITS, USUAL_DIGITS

AMOUNT = re.compile(r"(?P<whole>[0-9]{1,10})(?:\.(?P<part>[0-9]+))?", re.ASCII)


def digits_of(currency: str) -> int:
    return MINOR_DIGITS.get(currency, USUAL_DIGITS)


def minor_units(text: str, currency: str) -> int | None:
    """The smallest units of the currency. None for a text of another form, and for nothing."""
    found, digits = AMOUNT.fullmatch(text), digits_of(currency)
    if found is None or (found["part"] is not None and len(found["part"]) != digits):
        return None
    return int(found["whole"]) * 10**digits + int(found["part"] or 0) or None


class Rubles(click.ParamType[int]):
    """An amount in rubles; its value is in kopecks."""

    name = "amount"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if isinstance(value, int):
            return value
        amount_minor = minor_units(str(value), "RUB")
        if amount_minor is None:
            self.fail(
                f"{value!r} is not an amount in rubles: write 149, or 149.50 with kopecks.",
                param,
                ctx,
            )
        return amount_minor


RUBLES = Rubles()

amount_argument = click.argument("amount_minor", type=RUBLES, metavar="AMOUNT")


class Moment(click.ParamType[datetime]):
    """A time in UTC, such as `2026-12-01` or `2026-12-01T09:30`."""

    name = "moment"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> datetime:
        try:
            at = datetime.fromisoformat(str(value))
        except ValueError:
            self.fail(f"{value!r} is not a time: write 2026-12-01T09:30 (UTC).", param, ctx)
        return at.astimezone(UTC) if at.tzinfo else at.replace(tzinfo=UTC)


MOMENT = Moment()
