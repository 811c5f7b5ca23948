"""Texts for people: Fluent catalogues per service and language. A missing text is an error."""

from dataclasses import dataclass
from datetime import datetime, timedelta, timezone
from functools import cache
from html import escape
from importlib import resources
from typing import Any

from fluent.runtime import FluentBundle, FluentResource

from shared.contracts.money import Money

LANGUAGES = ("ru", "en")


class TextMissingError(KeyError):
    """The catalogue has no such message, or the message lacks an argument."""


@dataclass(frozen=True)
class Day:
    """A time of which only the day is shown."""

    at: datetime


class Texts:
    """The catalogue `texts/<language>.ftl` of a package.

    Strings are escaped for Telegram's HTML; money and times are formatted in the language. Telegram
    does not tell in which time zone a person lives: the readers of a language get its `zone`.
    """

    def __init__(self, package: str) -> None:
        self.package = package

    @property
    def bundles(self) -> dict[str, FluentBundle]:
        return _bundles(self.package)

    def __call__(self, language: str, key: str, /, **arguments: Any) -> str:
        """The message in that language. Raises TextMissingError instead of showing a raw key."""
        bundle = self.bundles[language]
        value = bundle.get_message(key).value if bundle.has_message(key) else None
        if value is None:
            raise TextMissingError(f"{self.package}/{language}: {key}")
        safe = {name: self._written(given, language) for name, given in arguments.items()}
        text, errors = bundle.format_pattern(value, safe)
        if errors:
            raise TextMissingError(f"{self.package}/{language}: {key}: {errors}")
        return str(text)

    def _written(self, given: Any, language: str) -> Any:
        """An argument for the catalogue. Numbers stay numbers: plurals depend on them."""
        match given:
            case Money():
                return escape(given.shown(language))
            case datetime():
                return self(language, "moment", **self._parts(self._local(given, language)))
            case Day():
                return f"{self._local(given.at, language):%d.%m.%Y}"
            case str():
                return escape(given)
            case _:
                return given

    def _local(self, at: datetime, language: str) -> datetime:
        hours = float(self(language, "zone-hours"))
        return at.astimezone(timezone(timedelta(hours=hours)))

    def _parts(self, local: datetime) -> dict[str, Any]:
        """The year is a text: the digits of a number are grouped."""
        time, year = f"{local:%H:%M}", str(local.year)
        return {"day": local.day, "month": local.month, "year": year, "time": time}


@cache
def _bundles(package: str) -> dict[str, FluentBundle]:
    """Parsed once in a process: a catalogue takes a quarter of a second."""
    return {language: _bundle(package, language) for language in LANGUAGES}


def _bundle(package: str, language: str) -> FluentBundle:
    source = (
        resources.files(package).joinpath("texts", f"{language}.ftl").read_text(encoding="utf-8")
    )
    bundle = FluentBundle([language], use_isolating=False)
    bundle.add_resource(FluentResource(source))
    return bundle
