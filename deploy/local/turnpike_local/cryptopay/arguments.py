"""The parameters of a call: from the query, from JSON or from a form, checked one by one."""

import json
import re
from collections.abc import Collection, Mapping
from decimal import Decimal

from aiohttp import web

from .refusals import APP_ERROR, Refused, invalid

_FORMS = ("application/x-www-form-urlencoded", "multipart/form-data")
_INTEGER = re.compile(r"-?[0-9]{1,18}")
_FLAGS = {"true": True, "false": False, "1": True, "0": False}


class Arguments:
    """Null and an empty text count as not given."""

    def __init__(self, given: Mapping[str, object]) -> None:
        self._given = {name: one for name, one in given.items() if one not in (None, "")}
        if any(isinstance(one, list | dict | web.FileField) for one in self._given.values()):
            raise APP_ERROR  # As the provider answers a list where it wants "USDT,TON".

    def names(self) -> set[str]:
        return set(self._given)

    def has(self, name: str) -> bool:
        return name in self._given

    def string(self, name: str) -> str | None:
        given = self._given.get(name)
        if given is None:
            return None
        if not isinstance(given, str) or not is_unicode(given):
            raise invalid(name)
        return given

    def text(self, name: str, *, chars: int) -> str | None:
        given = self.string(name)
        if given is not None and len(given) > chars:
            raise invalid(name)
        return given

    def one_of(self, name: str, known: Collection[str]) -> str | None:
        given = self.string(name)
        if given is not None and given not in known:
            raise invalid(name)
        return given

    def listed(self, name: str, *, most: int) -> list[str]:
        """A list with commas, as `USDT,TON`."""
        given = self.string(name)
        items = [] if given is None else [item.strip() for item in given.split(",", most)]
        if len(items) > most:
            raise invalid(name)
        return items

    def ids(self, name: str, *, most: int) -> list[int] | None:
        """A list with commas; one id may be a number."""
        if not self.has(name):
            return None
        given = self._given[name]
        items = [str(given)] if _is_integer(given) else self.listed(name, most=most)
        if not all(_INTEGER.fullmatch(item) for item in items):
            raise invalid(name)
        return [int(item) for item in items]

    def integer(self, name: str, least: int, most: int) -> int | None:
        if not self.has(name):
            return None
        given = self._given[name]
        text = str(given) if _is_integer(given) else given
        if not isinstance(text, str) or not _INTEGER.fullmatch(text):
            raise invalid(name)
        if not least <= int(text) <= most:
            raise invalid(name)
        return int(text)

    def flag(self, name: str, *, default: bool) -> bool:
        given = self._given.get(name, default)
        flag = given if isinstance(given, bool) else _FLAGS.get(str(given))
        if flag is None:
            raise invalid(name)
        return flag


async def read_arguments(request: web.Request) -> Arguments:
    """The query, and over it the body. Raises `Refused` for a body that cannot be read."""
    given: dict[str, object] = dict(request.query)
    if request.content_type in _FORMS:
        given |= dict(await request.post())
    elif request.can_read_body:
        given |= await _json_body(request)
    return Arguments(given)


async def _json_body(request: web.Request) -> dict[str, object]:
    if request.content_type != "application/json":
        raise Refused(400, "CONTENT_TYPE_INVALID")
    try:
        body = json.loads(await request.text(), parse_float=Decimal)
    except (ValueError, LookupError, RecursionError) as error:
        raise Refused(400, "BODY_INVALID") from error
    if not isinstance(body, dict):
        raise Refused(400, "BODY_INVALID")
    return body


def _is_integer(given: object) -> bool:
    return isinstance(given, int) and not isinstance(given, bool)


def is_unicode(text: str) -> bool:
    """JSON can hold half of a surrogate pair, which is no character."""
    return not any("\ud800" <= character <= "\udfff" for character in text)
