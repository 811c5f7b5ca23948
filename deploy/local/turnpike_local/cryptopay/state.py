"""The provider's state: invoices, balances, transfers, notices."""

import json
import secrets
import sqlite3
from dataclasses import asdict
from decimal import Decimal
from pathlib import Path
from typing import Any

from turnpike_local.standin.state import SqliteState

from . import schema
from .amounts import from_units, units_of, written
from .currencies import ASSETS
from .records import Invoice, Notice, Payment, Rate, Transfer
from .rules import InvoiceDraft, Page, TransferDraft


class State(SqliteState):
    def __init__(self, folder: Path) -> None:
        super().__init__(
            folder / "cryptopay.sqlite3",
            schema.SCHEMA,
            whose="Crypto Pay",
            first_ids={"invoices": schema.FIRST_INVOICE, "transfers": schema.FIRST_TRANSFER},
        )

    # Invoices

    def add_invoice(self, draft: InvoiceDraft, now_ms: int) -> Invoice:
        insert = (
            "insert into invoices (hash, asset, fiat, draft, created_at_ms, expires_at_ms)"
            " values (?, ?, ?, ?, ?, ?) returning *"
        )
        expires_at_ms = None if draft.expires_in_s is None else now_ms + draft.expires_in_s * 1000
        asset, fiat = (None, draft.currency) if draft.is_fiat else (draft.currency, None)
        values = (asset, fiat, _dumped(asdict(draft)), now_ms, expires_at_ms)
        row = self._row(insert, f"IV{secrets.token_hex(8)}", *values)
        assert row is not None
        return _invoice(row)

    def invoice(self, invoice_id: int) -> Invoice | None:
        row = self._row("select * from invoices where invoice_id = ?", invoice_id)
        return None if row is None else _invoice(row)

    def invoice_of_hash(self, invoice_hash: str) -> Invoice | None:
        row = self._row("select * from invoices where hash = ?", invoice_hash)
        return None if row is None else _invoice(row)

    def invoices(
        self,
        page: Page,
        now_ms: int,
        *,
        asset: str | None,
        fiat: str | None,
        ids: list[int] | None,
        status: str | None,
    ) -> list[Invoice]:
        wanted = {"asset": asset, "fiat": fiat, "status": status, "now_ms": now_ms}
        wanted |= {"ids": _listed(ids)} | asdict(page)
        query = schema.INVOICES if ids is None else schema.INVOICES_OF_IDS
        return [_invoice(row) for row in self._db.execute(query, wanted)]

    def keep_payment(self, invoice_id: int, payment: Payment) -> None:
        update = "update invoices set payment = ? where invoice_id = ? and payment is null"
        paid = self._db.execute(update, [_dumped(asdict(payment)), invoice_id])
        assert paid.rowcount == 1

    def expire(self, invoice_id: int, now_ms: int) -> None:
        update = "update invoices set expires_at_ms = ? where invoice_id = ?"
        self._db.execute(update, [now_ms, invoice_id])

    def remove_unpaid(self, invoice_id: int) -> bool:
        delete = "delete from invoices where invoice_id = ? and payment is null"
        return self._db.execute(delete, [invoice_id]).rowcount == 1

    # Balances, rates, people and transfers

    def add_to_balance(self, asset: str, amount: Decimal) -> None:
        insert = "insert or ignore into balances (asset, available_units) values (?, 0)"
        update = "update balances set available_units = available_units + ? where asset = ?"
        self._db.execute(insert, [asset])
        self._db.execute(update, [units_of(amount), asset])

    def balances(self) -> dict[str, Decimal]:
        rows = self._db.execute("select asset, available_units from balances")
        return {row["asset"]: from_units(row["available_units"]) for row in rows}

    def put_rate(self, asset: str, rate: Rate) -> None:
        replace = "insert or replace into rates (asset, usd, is_valid) values (?, ?, ?)"
        self._db.execute(replace, [asset, written(rate.usd), rate.is_valid])

    def rates(self) -> dict[str, Rate]:
        rates = {code: Rate(asset.usd, is_valid=True) for code, asset in ASSETS.items()}
        for row in self._db.execute("select * from rates"):
            rates[row["asset"]] = Rate(Decimal(row["usd"]), bool(row["is_valid"]))
        return rates

    def add_person(self, user_id: int) -> None:
        self._db.execute("insert or ignore into people (user_id) values (?)", [user_id])

    def is_known(self, user_id: int) -> bool:
        return self._row("select 1 from people where user_id = ?", user_id) is not None

    def add_transfer(self, draft: TransferDraft, now_ms: int) -> Transfer:
        insert = (
            "insert into transfers"
            " (spend_id, user_id, asset, amount_units, comment, completed_at_ms)"
            " values (?, ?, ?, ?, ?, ?) returning *"
        )
        values = (draft.asset, units_of(draft.amount), draft.comment, now_ms)
        row = self._row(insert, draft.spend_id, draft.user_id, *values)
        assert row is not None
        return _transfer(row)

    def transfers(
        self, page: Page, *, asset: str | None, ids: list[int] | None, spend_id: str | None
    ) -> list[Transfer]:
        wanted = {"asset": asset, "spend_id": spend_id, "ids": _listed(ids)} | asdict(page)
        return [_transfer(row) for row in self._db.execute(schema.TRANSFERS, wanted)]

    # Notices

    def add_notice(self, invoice_id: int, due_at_ms: int) -> None:
        insert = "insert into notices (invoice_id, due_at_ms) values (?, ?)"
        self._db.execute(insert, [invoice_id, due_at_ms])

    def notices(self, due_ms: int, limit: int) -> list[Notice]:
        """Notices that are due, the longest due first."""
        query = "select * from notices where due_at_ms <= ? order by due_at_ms, number limit ?"
        return [_notice(row) for row in self._db.execute(query, [due_ms, limit])]

    def notice_count(self) -> int:
        return int(self._db.execute("select count(*) from notices").fetchone()[0])

    def postpone(self, number: int, due_at_ms: int) -> None:
        update = "update notices set due_at_ms = ?, attempts = attempts + 1 where number = ?"
        self._db.execute(update, [due_at_ms, number])

    def remove_notice(self, number: int) -> None:
        self._db.execute("delete from notices where number = ?", [number])

    def drop_notices(self) -> None:
        self._db.execute("delete from notices")

    def add_failure(self, now_ms: int, since_ms: int) -> int:
        """Count a failed post. Returns the number of failures after `since_ms`."""
        self._db.execute("delete from webhook_failures where at_ms <= ?", [since_ms])
        self._db.execute("insert into webhook_failures (at_ms) values (?)", [now_ms])
        return self.failure_count()

    def failure_count(self) -> int:
        return int(self._db.execute("select count(*) from webhook_failures").fetchone()[0])

    def forget_failures(self) -> None:
        self._db.execute("delete from webhook_failures")


def _dumped(fields: dict[str, Any]) -> str:
    return json.dumps(fields, ensure_ascii=False, separators=(",", ":"))


def _listed(ids: list[int] | None) -> str | None:
    return None if ids is None else json.dumps(ids)


def _invoice(row: sqlite3.Row) -> Invoice:
    draft = json.loads(row["draft"])
    draft["accepted_assets"] = tuple(draft["accepted_assets"])
    payment = None if row["payment"] is None else Payment(**json.loads(row["payment"]))
    return Invoice(
        row["invoice_id"],
        row["hash"],
        InvoiceDraft(**draft),
        row["created_at_ms"],
        row["expires_at_ms"],
        payment,
    )


def _transfer(row: sqlite3.Row) -> Transfer:
    amount = from_units(row["amount_units"])
    money = (row["asset"], amount, row["comment"], row["completed_at_ms"])
    return Transfer(row["transfer_id"], row["spend_id"], row["user_id"], *money)


def _notice(row: sqlite3.Row) -> Notice:
    # Two notices in a row share an id: `update_id` is not unique.
    return Notice(row["number"], row["number"] // 2, row["invoice_id"], row["attempts"])
