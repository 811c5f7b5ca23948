"""The provider's state: payments, refunds, saved methods, idempotence keys, notices."""

import json
import sqlite3
from dataclasses import asdict
from pathlib import Path

from turnpike_local.standin.state import SqliteState

from .asked import AskedPayment
from .errors import Json
from .records import FiscalReceipt, Notice, Payment, Refund, SavedMethod
from .shop import MethodType

_SCHEMA = """
create table if not exists payments (
  seq integer primary key autoincrement,
  id text not null unique,
  status text not null,
  amount_minor integer not null,
  created_at_ms integer not null,
  captured_at_ms integer,
  ends_at_ms integer,
  method text,
  method_id text,
  saved integer not null default 0,
  refunded_minor integer not null default 0,
  reason text,
  charged_back_at_ms integer,
  asked text not null,
  constraint refunds_never_exceed_the_payment check (refunded_minor between 0 and amount_minor)
);
create index if not exists payments_by_time on payments (created_at_ms, seq);
create index if not exists payments_that_end on payments (ends_at_ms)
  where ends_at_ms is not null;
create index if not exists payments_charged_back on payments (charged_back_at_ms)
  where charged_back_at_ms is not null;
create table if not exists refunds (
  seq integer primary key autoincrement,
  id text not null unique,
  payment_id text not null,
  status text not null,
  amount_minor integer not null,
  created_at_ms integer not null,
  method text not null,
  has_receipt integer not null,
  reason text,
  description text,
  metadata text not null
);
create index if not exists refunds_by_time on refunds (created_at_ms, seq);
create index if not exists refunds_of_a_payment on refunds (payment_id);
create table if not exists methods (
  id text primary key,
  type text not null,
  decline text,
  used_at_ms integer not null
) without rowid;
create index if not exists methods_by_use on methods (used_at_ms);
create table if not exists fiscal_receipts (
  id text primary key,
  payment_id text not null,
  created_at_ms integer not null,
  settlement text not null,
  amount_minor integer not null,
  items text not null,
  email text
) without rowid;
create index if not exists fiscal_receipts_of_a_payment on fiscal_receipts (payment_id);
create index if not exists fiscal_receipts_by_time on fiscal_receipts (created_at_ms);
create table if not exists registrations (
  id text primary key,
  status text not null,
  made_at_ms integer not null
) without rowid;
create index if not exists registrations_by_time on registrations (made_at_ms);
create table if not exists keys (
  key text primary key,
  digest text not null,
  status integer not null,
  answer text not null,
  made_at_ms integer not null
) without rowid;
create index if not exists keys_by_time on keys (made_at_ms);
create table if not exists notices (
  id integer primary key autoincrement,
  event text not null,
  body text not null,
  made_at_ms integer not null,
  due_at_ms integer not null,
  attempts integer not null default 0,
  state text not null
);
create index if not exists notices_that_wait on notices (due_at_ms) where state = 'waiting';
create index if not exists notices_by_time on notices (made_at_ms);
"""

_NEWEST = "order by created_at_ms desc, seq desc limit ?"


class State(SqliteState):
    def __init__(self, folder: Path) -> None:
        super().__init__(folder / "yookassa.sqlite3", _SCHEMA, whose="YooKassa")
        self.touched: set[str] = set()
        """The payments that were written since this was cleared."""

    # Payments

    def add_payment(
        self, payment_id: str, asked: AskedPayment, now_ms: int, ends_at_ms: int
    ) -> None:
        insert = (
            "insert into payments (id, status, amount_minor, created_at_ms, ends_at_ms, method,"
            " asked) values (?, 'pending', ?, ?, ?, ?, ?)"
        )
        values = [payment_id, asked.amount_minor, now_ms, ends_at_ms, asked.method]
        self._db.execute(insert, [*values, json.dumps(asdict(asked))])
        self.touched.add(payment_id)

    def payment(self, payment_id: str) -> Payment | None:
        row = self._row("select * from payments where id = ?", payment_id)
        return None if row is None else _payment(row)

    def change_payment(self, payment_id: str, **columns: object) -> None:
        """Write these columns. Their names come from the code."""
        names = ", ".join(f"{name} = ?" for name in columns)
        self._db.execute(
            f"update payments set {names} where id = ?",  # noqa: S608 - names of columns.
            [*columns.values(), payment_id],
        )
        self.touched.add(payment_id)

    def payments_that_ended(self, now_ms: int, most: int) -> list[Payment]:
        query = "select * from payments where ends_at_ms <= ? order by ends_at_ms limit ?"
        return [_payment(row) for row in self._db.execute(query, [now_ms, most])]

    def charged_back(self, most: int) -> list[Payment]:
        query = (
            "select * from payments where charged_back_at_ms is not null"
            " order by charged_back_at_ms desc limit ?"
        )
        return [_payment(row) for row in self._db.execute(query, [most])]

    # Refunds

    def add_refund(self, refund: Refund) -> None:
        insert = (
            "insert into refunds (id, payment_id, status, amount_minor, created_at_ms, method,"
            " has_receipt, reason, description, metadata) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)"
        )
        values = [refund.id, refund.payment_id, refund.status, refund.amount_minor]
        values = [*values, refund.created_at_ms, refund.method, refund.has_receipt]
        values = [*values, refund.reason, refund.description, json.dumps(refund.metadata)]
        self._db.execute(insert, values)

    def refund(self, refund_id: str) -> Refund | None:
        row = self._row("select * from refunds where id = ?", refund_id)
        return None if row is None else _refund(row)

    def settle_refund(self, refund_id: str, status: str, reason: str | None) -> None:
        update = "update refunds set status = ?, reason = ? where id = ?"
        self._db.execute(update, [status, reason, refund_id])

    def reserved_minor(self, payment_id: str) -> int:
        """The sum of the refunds, pending ones included."""
        query = (
            "select coalesce(sum(amount_minor), 0) from refunds"
            " where payment_id = ? and status <> 'canceled'"
        )
        return int(self._db.execute(query, [payment_id]).fetchone()[0])

    # Lists

    def payments_where(self, where: str, values: list[object], most: int) -> list[Payment]:
        """Newest first. `where` is composed by `listing` of constants."""
        query = f"select * from payments where {where} {_NEWEST}"  # noqa: S608 - of constants.
        return [_payment(row) for row in self._db.execute(query, [*values, most])]

    def refunds_where(self, where: str, values: list[object], most: int) -> list[Refund]:
        query = f"select * from refunds where {where} {_NEWEST}"  # noqa: S608 - of constants.
        return [_refund(row) for row in self._db.execute(query, [*values, most])]

    # Saved methods

    def save_method(self, method_id: str, method: MethodType, now_ms: int) -> None:
        insert = "insert into methods (id, type, used_at_ms) values (?, ?, ?)"
        self._db.execute(insert, [method_id, method, now_ms])

    def use_method(self, method_id: str, now_ms: int) -> None:
        self._db.execute("update methods set used_at_ms = ? where id = ?", [now_ms, method_id])

    def method(self, method_id: str) -> SavedMethod | None:
        row = self._row("select * from methods where id = ?", method_id)
        return None if row is None else SavedMethod(row["id"], row["type"], row["decline"])

    def decline_method(self, method_id: str, reason: str | None) -> None:
        self._db.execute("update methods set decline = ? where id = ?", [reason, method_id])

    # Receipts

    def add_receipt(self, receipt: FiscalReceipt) -> None:
        values = {**asdict(receipt), "items": json.dumps(receipt.items)}
        insert = "insert into fiscal_receipts values (?, ?, ?, ?, ?, ?, ?)"
        self._db.execute(insert, list(values.values()))

    def receipt(self, receipt_id: str) -> FiscalReceipt | None:
        row = self._row("select * from fiscal_receipts where id = ?", receipt_id)
        return None if row is None else _receipt(row)

    def receipts(self, most: int) -> list[FiscalReceipt]:
        """Newest first."""
        query = "select * from fiscal_receipts order by created_at_ms desc, id limit ?"
        return [_receipt(row) for row in self._db.execute(query, [most])]

    def receipts_of(self, payment_id: str) -> int:
        query = "select count(*) from fiscal_receipts where payment_id = ?"
        return int(self._db.execute(query, [payment_id]).fetchone()[0])

    def registration(self, id_: str) -> str | None:
        """Of a receipt, or of that of a payment or refund; None where nothing was planned."""
        row = self._row("select status from registrations where id = ?", id_)
        return None if row is None else str(row["status"])

    def set_registration(self, id_: str, status: str, now_ms: int = 0) -> None:
        put = (
            "insert into registrations values (?, ?, ?)"
            " on conflict (id) do update set status = excluded.status"
        )
        self._db.execute(put, [id_, status, now_ms])

    # Idempotence keys

    def keep_answer(self, key: str, digest: str, status: int, answer: Json, now_ms: int) -> None:
        insert = "insert into keys values (?, ?, ?, ?, ?)"
        self._db.execute(insert, [key, digest, status, json.dumps(answer), now_ms])

    def kept_answer(self, key: str) -> tuple[str, int, Json] | None:
        """The digest of the request, the status and the answer."""
        row = self._row("select * from keys where key = ?", key)
        return None if row is None else (row["digest"], row["status"], json.loads(row["answer"]))

    # Notices

    def add_notice(self, event: str, body: Json, now_ms: int, due_at_ms: int, state: str) -> None:
        insert = (
            "insert into notices (event, body, made_at_ms, due_at_ms, state) values (?, ?, ?, ?, ?)"
        )
        self._db.execute(insert, [event, json.dumps(body), now_ms, due_at_ms, state])

    def notice(self, notice_id: int) -> Notice | None:
        row = self._row("select * from notices where id = ?", notice_id)
        return None if row is None else _notice(row)

    def notices(self, most: int) -> list[Notice]:
        """Newest first."""
        rows = self._db.execute("select * from notices order by id desc limit ?", [most])
        return [_notice(row) for row in rows]

    def due_notices(self, now_ms: int, most: int) -> list[Notice]:
        query = (
            "select * from notices where state = 'waiting' and due_at_ms <= ?"
            " order by due_at_ms, id limit ?"
        )
        return [_notice(row) for row in self._db.execute(query, [now_ms, most])]

    def change_notice(self, notice_id: int, state: str, due_at_ms: int, attempts: int) -> None:
        update = "update notices set state = ?, due_at_ms = ?, attempts = ? where id = ?"
        self._db.execute(update, [state, due_at_ms, attempts, notice_id])

    # Bounds

    def forget(self, *, keys_until_ms: int, notices_until_ms: int, payments_until_ms: int) -> None:
        """Delete what the provider keeps no longer; a saved method, as long after its last use."""
        self._db.execute("delete from keys where made_at_ms <= ?", [keys_until_ms])
        self._db.execute("delete from notices where made_at_ms <= ?", [notices_until_ms])
        self._db.execute("delete from payments where created_at_ms <= ?", [payments_until_ms])
        self._db.execute("delete from refunds where created_at_ms <= ?", [payments_until_ms])
        self._db.execute(
            "delete from fiscal_receipts where created_at_ms <= ?", [payments_until_ms]
        )
        self._db.execute("delete from registrations where made_at_ms <= ?", [payments_until_ms])
        self._db.execute("delete from methods where used_at_ms <= ?", [payments_until_ms])


def _payment(row: sqlite3.Row) -> Payment:
    values = dict(row)
    asked = AskedPayment(**json.loads(values.pop("asked")))
    return Payment(**{**values, "saved": bool(row["saved"])}, asked=asked)


def _refund(row: sqlite3.Row) -> Refund:
    values = {"has_receipt": bool(row["has_receipt"]), "metadata": json.loads(row["metadata"])}
    return Refund(**{**dict(row), **values})


def _receipt(row: sqlite3.Row) -> FiscalReceipt:
    return FiscalReceipt(**{**dict(row), "items": json.loads(row["items"])})


def _notice(row: sqlite3.Row) -> Notice:
    body = json.loads(row["body"])
    return Notice(row["id"], row["event"], body, row["due_at_ms"], row["attempts"], row["state"])
