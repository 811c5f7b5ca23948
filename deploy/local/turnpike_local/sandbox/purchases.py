"""Purchases: the orders that the bot made invoices for, one row each, newest last.

An invoice's payload names the trace of its order. The row is kept up to date by every act, so a
page of the list reads its own rows only.
"""

import re
import sqlite3
from dataclasses import dataclass
from typing import Literal

from .rules import InvoiceDraft

Attempt = Literal["none", "asked", "refused", "expired"]

SCHEMA = """
create table if not exists purchases (
  seq integer primary key,
  trace_id text not null unique,
  placed_at real not null,
  person_id integer,
  title text not null,
  amount integer not null,
  currency text not null,
  attempt text not null default 'none',
  charges integer not null default 0,
  refunds integer not null default 0
);
"""

NEWEST = 2**53
"""Above every number, and exact in JSON."""

_TRACE_ID = re.compile(r"(?<![0-9a-f])[0-9a-f]{32}(?![0-9a-f])")


@dataclass(frozen=True)
class Purchase:
    """The newest invoice of an order, and how far its payment came.

    `person_id` is the payer, and before a payment the person who was shown the invoice.
    """

    seq: int
    trace_id: str
    placed_at: float
    person_id: int | None
    title: str
    amount: int
    currency: str
    attempt: Attempt
    charges: int
    refunds: int


class Purchases:
    """Their rows. Every method that writes runs inside the transaction of the state."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def placed(self, draft: InvoiceDraft, now: float) -> None:
        """An invoice was made. A newer one of the same order replaces its title and amount."""
        upsert = (
            "insert into purchases (trace_id, placed_at, title, amount, currency)"
            " values (?, ?, ?, ?, ?) on conflict (trace_id) do update"
            " set title = excluded.title, amount = excluded.amount, currency = excluded.currency"
        )
        if trace_id := _trace_of(draft):
            values = [trace_id, now, draft.title, draft.total_amount, draft.currency]
            self._db.execute(upsert, values)

    def shown(self, draft: InvoiceDraft, person_id: int) -> None:
        """The invoice, or a link to it, is in this person's chat."""
        update = "update purchases set person_id = ? where trace_id = ? and person_id is null"
        self._db.execute(update, [person_id, _trace_of(draft)])

    def tried(self, draft: InvoiceDraft, person_id: int, attempt: Attempt) -> None:
        """The newest attempt to pay came so far. A payment outlasts later attempts."""
        update = (
            "update purchases set person_id = ?, attempt = ? where trace_id = ? and charges = 0"
        )
        self._db.execute(update, [person_id, attempt, _trace_of(draft)])

    def charged(self, draft: InvoiceDraft, person_id: int) -> None:
        update = "update purchases set person_id = ?, charges = charges + 1 where trace_id = ?"
        self._db.execute(update, [person_id, _trace_of(draft)])

    def refunded(self, draft: InvoiceDraft) -> None:
        update = "update purchases set refunds = refunds + 1 where trace_id = ?"
        self._db.execute(update, [_trace_of(draft)])

    def page(self, limit: int, *, before: int = NEWEST) -> list[Purchase]:
        """Purchases with a lower number than `before`, newest first."""
        query = "select * from purchases where seq < ? order by seq desc limit ?"
        return [_purchase(row) for row in self._db.execute(query, [before, limit])]

    def of_trace(self, trace_id: str) -> Purchase | None:
        row = self._db.execute("select * from purchases where trace_id = ?", [trace_id]).fetchone()
        return None if row is None else _purchase(row)

    def newest_traces(self, limit: int) -> set[str]:
        return {purchase.trace_id for purchase in self.page(limit)}


def _trace_of(draft: InvoiceDraft) -> str | None:
    """The first id of 32 hex digits in the payload: the shop puts the order there."""
    found = _TRACE_ID.search(draft.payload)
    return found.group() if found else None


def _purchase(row: sqlite3.Row) -> Purchase:
    return Purchase(**dict(row))
