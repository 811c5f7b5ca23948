"""Purchases: the orders that invoices were made for, by the bot or at a provider, newest last.

An invoice's payload names the trace of its order. The row is kept up to date by every act, so a
page of the list reads its own rows only.
"""

import re
import sqlite3
from dataclasses import dataclass, replace
from typing import Literal

from turnpike_local.standin.outside import Outside

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
create table if not exists outside (
  provider text not null,
  reference text not null,
  trace_id text not null,
  way text not null,
  url text not null,
  state text not null,
  returned integer not null,
  charged_back integer not null,
  primary key (provider, reference)
);
create index if not exists outside_by_trace on outside (trace_id);
create index if not exists outside_by_url on outside (url);
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
    way: str = "Stars"
    provider: str | None = None
    """The provider's name, and its id of the payment. None for Stars."""
    reference: str | None = None
    charged_back: bool = False


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
        if trace_id := _trace_of(draft.payload):
            values = [trace_id, now, draft.title, draft.total_amount, draft.currency]
            self._db.execute(upsert, values)

    def told(self, outside: Outside, now: float) -> None:
        """A provider tells the whole state of a payment. One without an order is not listed.

        That of a card in Telegram has none there: it is known since its charge.
        """
        trace_id = _trace_of(outside.payload)
        if trace_id is None:
            known = (
                "update outside set state = ?, returned = ?, charged_back = ?"
                " where provider = ? and reference = ?"
            )
            ends = [outside.state, outside.returned, outside.charged_back]
            self._db.execute(known, [*ends, outside.provider, outside.reference])
            return
        of_order = (
            "insert into purchases (trace_id, placed_at, title, amount, currency)"
            " values (?, ?, ?, ?, ?) on conflict (trace_id) do update"
            " set title = excluded.title, amount = excluded.amount, currency = excluded.currency"
            " where charges = 0"
        )
        values = [trace_id, now, outside.title, outside.amount_minor, outside.currency]
        self._db.execute(of_order, values)
        whole = (
            "insert into outside values (?, ?, ?, ?, ?, ?, ?, ?)"
            " on conflict (provider, reference) do update set way = excluded.way,"
            " state = excluded.state, returned = excluded.returned,"
            " charged_back = excluded.charged_back"
        )
        kept = [outside.provider, outside.reference, trace_id, outside.way, outside.url]
        ends = [outside.state, outside.returned, outside.charged_back]
        self._db.execute(whole, [*kept, *ends])

    def page_shown(self, url: str, person_id: int) -> None:
        """A link to this provider's page is in this person's chat."""
        update = (
            "update purchases set person_id = ? where person_id is null"
            " and trace_id in (select trace_id from outside where url = ?)"
        )
        self._db.execute(update, [person_id, url])

    def shown(self, draft: InvoiceDraft, person_id: int) -> None:
        """The invoice, or a link to it, is in this person's chat."""
        update = "update purchases set person_id = ? where trace_id = ? and person_id is null"
        self._db.execute(update, [person_id, _trace_of(draft.payload)])

    def tried(self, draft: InvoiceDraft, person_id: int, attempt: Attempt) -> None:
        """The newest attempt to pay came so far. A payment outlasts later attempts."""
        update = (
            "update purchases set person_id = ?, attempt = ? where trace_id = ? and charges = 0"
        )
        self._db.execute(update, [person_id, attempt, _trace_of(draft.payload)])

    def charged(self, draft: InvoiceDraft, person_id: int) -> None:
        update = "update purchases set person_id = ?, charges = charges + 1 where trace_id = ?"
        self._db.execute(update, [person_id, _trace_of(draft.payload)])

    def refunded(self, draft: InvoiceDraft) -> None:
        update = "update purchases set refunds = refunds + 1 where trace_id = ?"
        self._db.execute(update, [_trace_of(draft.payload)])

    def page(self, limit: int, *, before: int = NEWEST) -> list[Purchase]:
        """Purchases with a lower number than `before`, newest first."""
        query = "select * from purchases where seq < ? order by seq desc limit ?"
        return [self._purchase(row) for row in self._db.execute(query, [before, limit])]

    def of_trace(self, trace_id: str) -> Purchase | None:
        row = self._db.execute("select * from purchases where trace_id = ?", [trace_id]).fetchone()
        return None if row is None else self._purchase(row)

    def _purchase(self, row: sqlite3.Row) -> Purchase:
        """With what providers told of it: the paid one of several, else the newest."""
        query = "select * from outside where trace_id = ? order by rowid"
        told = list(self._db.execute(query, [row["trace_id"]]))
        purchase = Purchase(**dict(row))
        if not told or purchase.charges:
            return purchase
        paid = [one for one in told if one["state"] == "paid"]
        shown = (paid or told)[-1]
        return replace(
            purchase,
            attempt="refused" if shown["state"] == "ended" else "none",
            charges=len(paid),
            refunds=sum(one["returned"] for one in paid),
            way=shown["way"] or shown["provider"],
            provider=shown["provider"],
            reference=shown["reference"],
            charged_back=bool(shown["charged_back"]),
        )

    def newest_traces(self, limit: int) -> set[str]:
        return {purchase.trace_id for purchase in self.page(limit)}


def _trace_of(payload: str) -> str | None:
    """The first id of 32 hex digits in the payload: the shop puts the order there."""
    found = _TRACE_ID.search(payload)
    return found.group() if found else None
