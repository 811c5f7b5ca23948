"""The two lists: filters, newest first, a page at a time."""

import base64
import binascii
import hashlib
import json
import re
from dataclasses import dataclass, field
from datetime import datetime

from .backend import Backend
from .errors import Json, Refused, invalid
from .records import REFUND_STATUSES, STATUSES, Payment, Refund
from .shop import METHODS

_COMPARISONS = {"gte": ">=", "gt": ">", "lte": "<=", "lt": "<"}
_LIMIT = re.compile(r"[1-9][0-9]?|100")
_PAGING = ("limit", "cursor")

Query = list[tuple[str, str]]
_Filters = dict[str, tuple[str, tuple[str, ...] | None]]

_PAYMENT_FILTERS: _Filters = {
    "status": ("status = ?", STATUSES),
    "payment_method": ("method = ?", METHODS),
}
_REFUND_FILTERS: _Filters = {
    "status": ("status = ?", REFUND_STATUSES),
    "payment_id": ("payment_id = ?", None),
}


@dataclass
class _Wanted:
    """A condition in SQL, made of constants, with its values."""

    where: list[str] = field(default_factory=list)
    values: list[object] = field(default_factory=list)
    limit: int = 10
    digest: str = ""

    def add(self, condition: str, *values: object) -> None:
        self.where.append(condition)
        self.values.extend(values)

    @property
    def condition(self) -> str:
        return " and ".join(self.where)


class Listing:
    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def payments(self, query: Query) -> Json:
        wanted = self._wanted(query, ("created_at", "captured_at"), _PAYMENT_FILTERS)
        found = self._backend.state.payments_where(
            wanted.condition, wanted.values, wanted.limit + 1
        )
        return _page(wanted, found, [self._backend.payment_shown(one) for one in found])

    def refunds(self, query: Query) -> Json:
        wanted = self._wanted(query, ("created_at",), _REFUND_FILTERS)
        found = self._backend.state.refunds_where(wanted.condition, wanted.values, wanted.limit + 1)
        return _page(wanted, found, [self._backend.refund_shown(one) for one in found])

    def _wanted(
        self,
        query: Query,
        times: tuple[str, ...],
        filters: _Filters,
    ) -> _Wanted:
        """Reads every parameter once. Raises `Refused` for one that is unknown or malformed."""
        oldest_ms = self._backend.clock.now_ms() - round(self._backend.limits.kept_s * 1000)
        wanted = _Wanted(["created_at_ms > ?"], [oldest_ms], digest=_digest(query))
        names = [name for name, _ in query]
        for name, text in query:
            at, _, comparison = name.partition(".")
            if names.count(name) > 1:
                raise invalid("The parameter is there twice", name)
            if at in times and comparison in _COMPARISONS:
                wanted.add(f"{at}_ms {_COMPARISONS[comparison]} ?", _time(name, text))
            elif name in filters:
                condition, options = filters[name]
                if options is not None and text not in options:
                    raise invalid(f"One of {', '.join(options)} is expected", name)
                wanted.add(condition, text)
            elif name == "limit":
                wanted.limit = _limit(text)
            elif name == "cursor":
                at_ms, seq = _position(text, wanted.digest)
                wanted.add("(created_at_ms, seq) < (?, ?)", at_ms, seq)
            else:
                raise invalid("The parameter is unknown here", name)
        return wanted


def _page(wanted: _Wanted, found: list[Payment] | list[Refund], shown: list[Json]) -> Json:
    page: Json = {"type": "list", "items": shown[: wanted.limit]}
    if len(found) > wanted.limit:
        last = found[wanted.limit - 1]
        position = json.dumps([last.created_at_ms, last.seq, wanted.digest])
        page["next_cursor"] = base64.urlsafe_b64encode(position.encode()).decode()
    return page


def _time(name: str, text: str) -> int:
    """Milliseconds of an ISO 8601 time with its zone."""
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise invalid("An ISO 8601 time with its zone is expected", name)
    return round(at.timestamp() * 1000)


def _limit(text: str) -> int:
    if not _LIMIT.fullmatch(text):
        raise invalid("A whole number from 1 to 100 is expected", "limit")
    return int(text)


def _digest(query: Query) -> str:
    """Of the filters: a cursor continues the list that it came from, and no other."""
    filters = sorted(pair for pair in query if pair[0] not in _PAGING)
    return hashlib.sha256(json.dumps(filters).encode()).hexdigest()[:16]


def _position(cursor: str, digest: str) -> tuple[int, int]:
    """The time and number of the last object of the page before."""
    try:
        at_ms, seq, of = json.loads(base64.urlsafe_b64decode(cursor))
    except (ValueError, TypeError, binascii.Error):
        raise _wrong_cursor() from None
    if of != digest or type(at_ms) is not int or type(seq) is not int:
        raise _wrong_cursor()
    return at_ms, seq


def _wrong_cursor() -> Refused:
    return invalid("The next_cursor of an answer with the same filters is expected", "cursor")
