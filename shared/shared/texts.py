"""Texts that people read: Fluent catalogues per service and language; what is missing is an error, never a raw key."""

from functools import cached_property
from html import escape
from importlib import resources
from typing import Any

from fluent.runtime import FluentBundle, FluentResource

from shared.money import Money

LANGUAGES = ("ru", "en")


class TextMissingError(KeyError):
    """The catalogue has no such message, or the message wants an argument that was not given."""


class Texts:
    """The catalogue `texts/<language>.ftl` of a package. Strings are escaped for Telegram's HTML, money written out."""

    def __init__(self, package: str) -> None:
        self.package = package

    @cached_property
    def bundles(self) -> dict[str, FluentBundle]:
        return {language: self._bundle(language) for language in LANGUAGES}

    def _bundle(self, language: str) -> FluentBundle:
        source = resources.files(self.package).joinpath("texts", f"{language}.ftl").read_text(encoding="utf-8")
        bundle = FluentBundle([language], use_isolating=False)
        bundle.add_resource(FluentResource(source))
        return bundle

    def __call__(self, language: str, key: str, /, **arguments: Any) -> str:
        """The message in that language. Raises TextMissingError rather than show a raw key to a person."""
        bundle = self.bundles[language]
        value = bundle.get_message(key).value if bundle.has_message(key) else None
        if value is None:
            raise TextMissingError(f"{self.package}/{language}: {key}")
        safe = {name: written(given, language) for name, given in arguments.items()}
        text, errors = bundle.format_pattern(value, safe)
        if errors:
            raise TextMissingError(f"{self.package}/{language}: {key}: {errors}")
        return str(text)


def written(given: Any, language: str) -> Any:
    """An argument as the catalogue takes it: numbers stay numbers, by which plurals are chosen."""
    if isinstance(given, Money):
        return given.shown(language)
    return escape(given) if isinstance(given, str) else given
