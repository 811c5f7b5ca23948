"""Strict reading of a JSON object: types, lengths, and no field that is not known."""

import re
from collections.abc import Iterator
from typing import Any

from .errors import invalid

_AMOUNT = re.compile(r"(0|[1-9][0-9]{0,9})\.[0-9]{2}")
_URL = re.compile(r"https?://[^\s<>\"]+")


class Fields:
    """An object that is read field by field. `end` refuses what was not read."""

    def __init__(self, value: object, path: str = "") -> None:
        if not isinstance(value, dict):
            raise invalid("An object is expected", path or None)
        self._left: dict[str, Any] = dict(value)
        self._path = path

    def at(self, name: str) -> str:
        return f"{self._path}.{name}" if self._path else name

    def take(self, name: str, *, required: bool = False) -> Any:
        """The value. An explicit null is refused, as the contract has no nullable field."""
        if name not in self._left:
            if required:
                raise invalid("The required parameter is missing", self.at(name))
            return None
        value = self._left.pop(name)
        if value is None:
            raise invalid("The parameter is null", self.at(name))
        return value

    def text(self, name: str, *, most: int, required: bool = False) -> str | None:
        value = self.take(name, required=required)
        if value is None:
            return None
        if not isinstance(value, str) or not 1 <= len(value) <= most:
            raise invalid(f"A string of 1 to {most} characters is expected", self.at(name))
        return value

    def url(self, name: str, *, most: int) -> str:
        value = self.text(name, most=most, required=True)
        assert value is not None  # Required.
        if not _URL.fullmatch(value):
            raise invalid("An http or https address is expected", self.at(name))
        return value

    def flag(self, name: str, *, required: bool = False) -> bool:
        value = self.take(name, required=required)
        if value is not None and not isinstance(value, bool):
            raise invalid("true or false is expected", self.at(name))
        return bool(value)

    def whole(self, name: str, *, most: int, required: bool = False) -> int | None:
        value = self.take(name, required=required)
        if value is not None and (type(value) is not int or not 1 <= value <= most):
            raise invalid(f"A whole number from 1 to {most} is expected", self.at(name))
        return value

    def one_of(self, name: str, options: tuple[str, ...], *, required: bool = False) -> str | None:
        value = self.take(name, required=required)
        if value is not None and value not in options:
            raise invalid(f"One of {', '.join(options)} is expected", self.at(name))
        return None if value is None else str(value)

    def object(self, name: str, *, required: bool = False) -> "Fields | None":
        value = self.take(name, required=required)
        return None if value is None else Fields(value, self.at(name))

    def objects(self, name: str, *, most: int) -> Iterator["Fields"]:
        value = self.take(name, required=True)
        if not isinstance(value, list) or not 1 <= len(value) <= most:
            raise invalid(f"A list of 1 to {most} objects is expected", self.at(name))
        for number, one in enumerate(value):
            yield Fields(one, f"{self.at(name)}[{number}]")

    def amount(self, name: str, *, required: bool = False) -> int | None:
        """Kopecks of `{"value": "149.00", "currency": "RUB"}`, above zero."""
        fields = self.object(name, required=required)
        if fields is None:
            return None
        value = fields.take("value", required=True)
        if not isinstance(value, str) or not _AMOUNT.fullmatch(value):
            raise invalid(
                "A string with two digits after the point is expected", fields.at("value")
            )
        if fields.take("currency", required=True) != "RUB":
            raise invalid("The currency of this shop is RUB", fields.at("currency"))
        fields.end()
        minor = int(value.replace(".", ""))
        if minor == 0:
            raise invalid("An amount above zero is expected", fields.at("value"))
        return minor

    def metadata(self) -> dict[str, str]:
        value = self.take("metadata")
        if value is None:
            return {}
        if not isinstance(value, dict) or len(value) > 16:
            raise invalid("An object of at most 16 keys is expected", self.at("metadata"))
        for key, one in value.items():
            where = f"{self.at('metadata')}.{key[:32]}"
            if not 1 <= len(key) <= 32:
                raise invalid("A key has at most 32 characters", where)
            if not isinstance(one, str) or len(one) > 512:
                raise invalid("A value is a string of at most 512 characters", where)
        return value

    def end(self) -> None:
        for name in self._left:
            raise invalid("The parameter is unknown here", self.at(name))


def money(minor: int) -> dict[str, str]:
    """As `{"value": "149.00", "currency": "RUB"}`."""
    return {"value": f"{minor // 100}.{minor % 100:02d}", "currency": "RUB"}
