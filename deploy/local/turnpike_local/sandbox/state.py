"""The sandbox's state: people, chats, updates, invoices, Stars."""

import json
import secrets
import sqlite3
from dataclasses import asdict
from pathlib import Path

from turnpike_local.standin.state import SqliteState

from . import purchases
from .records import (
    Author,
    Checkout,
    CheckoutState,
    Invoice,
    Person,
    Photo,
    StarTransaction,
    Update,
)
from .rules import InvoiceDraft, Json

FIRST_PERSON = 7_000_000_001  # Telegram ids need more than 32 bits.
TOASTS_KEPT = 50

_SCHEMA = """
create table if not exists people (
  id integer primary key autoincrement,
  first_name text not null,
  username text,
  language_code text not null,
  stars integer not null constraint stars_never_go_below_zero check (stars >= 0),
  started integer not null default 0,
  blocked integer not null default 0,
  version integer not null default 0
);
create table if not exists deactivated (person_id integer primary key) without rowid;
create table if not exists messages (
  message_id integer primary key autoincrement,
  chat_id integer not null,
  author text not null,
  sent_at real not null,
  body text not null
);
create index if not exists messages_of_a_chat on messages (chat_id, message_id);
create table if not exists updates (
  update_id integer primary key,
  kind text not null,
  person_id integer not null,
  made_at real not null,
  body text not null,
  again integer not null default 0,
  handed_out integer not null default 0
);
create table if not exists callbacks (
  id text primary key,
  person_id integer not null,
  asked_at real not null,
  answered integer not null default 0
) without rowid;
create table if not exists toasts (
  id integer primary key autoincrement,
  person_id integer not null,
  made_at real not null,
  kind text not null,
  text text not null,
  alert integer not null
);
create table if not exists invoices (
  slug text primary key,
  message_id integer,
  draft text not null
) without rowid;
create table if not exists checkouts (
  id text primary key,
  person_id integer not null,
  slug text not null,
  asked_at real not null,
  state text not null default 'asked',
  charge text constraint a_charge_is_one_payment unique,
  report_id integer,
  report text
) without rowid;
create table if not exists star_transactions (
  seq integer primary key autoincrement,
  charge text not null,
  direction text not null,
  person_id integer not null,
  amount integer not null,
  payload text not null,
  made_at real not null,
  constraint a_charge_moves_once_each_way unique (charge, direction)
);
create table if not exists photos (
  file_id text primary key,
  width integer not null,
  height integer not null,
  media_type text not null,
  content blob not null
) without rowid;
"""

_PEOPLE = """
select people.*, exists (select 1 from deactivated where person_id = id) as deactivated from people
"""


class State(SqliteState):
    def __init__(self, folder: Path) -> None:
        super().__init__(
            folder / "sandbox.sqlite3",
            _SCHEMA + purchases.SCHEMA,
            whose="the sandbox",
            first_ids={"people": FIRST_PERSON},
        )
        self.purchases = purchases.Purchases(self._db)

    # People

    def add_person(
        self, first_name: str, username: str | None, language_code: str, stars: int
    ) -> Person:
        insert = (
            "insert into people (first_name, username, language_code, stars) values (?, ?, ?, ?)"
        )
        person_id = self._insert(insert, first_name, username, language_code, stars)
        person = self.person(person_id)
        assert person is not None
        return person

    def person(self, person_id: int) -> Person | None:
        row = self._row(f"{_PEOPLE} where id = ?", person_id)
        return None if row is None else _person(row)

    def people(self) -> list[Person]:
        return [_person(row) for row in self._db.execute(f"{_PEOPLE} order by id")]

    def touch(self, person_id: int) -> None:
        """Mark this person's chat as changed."""
        self._db.execute("update people set version = version + 1 where id = ?", [person_id])

    def set_started(self, person_id: int) -> None:
        self._db.execute("update people set started = 1 where id = ?", [person_id])

    def set_blocked(self, person_id: int, *, blocked: bool) -> None:
        self._db.execute("update people set blocked = ? where id = ?", [blocked, person_id])

    def set_deactivated(self, person_id: int) -> None:
        self._db.execute("insert or ignore into deactivated values (?)", [person_id])

    def add_stars(self, person_id: int, amount: int) -> None:
        self._db.execute("update people set stars = stars + ? where id = ?", [amount, person_id])

    # Messages

    def add_message(self, chat_id: int, author: Author, sent_at: float, body: Json) -> Json:
        """Store a message. Returns its body with the id it got."""
        insert = "insert into messages (chat_id, author, sent_at, body) values (?, ?, ?, '')"
        message_id = self._insert(insert, chat_id, author, sent_at)
        return self.put_message({"message_id": message_id, **body})

    def put_message(self, body: Json) -> Json:
        self._db.execute(
            "update messages set body = ? where message_id = ?", [_dumped(body), body["message_id"]]
        )
        return body

    def message(self, chat_id: int, message_id: int) -> tuple[Author, float, Json] | None:
        """Author, time of sending and body."""
        query = "select author, sent_at, body from messages where chat_id = ? and message_id = ?"
        row = self._row(query, chat_id, message_id)
        return None if row is None else (row["author"], row["sent_at"], json.loads(row["body"]))

    def messages(self, chat_id: int, newest: int) -> list[tuple[Author, Json]]:
        query = (
            "select author, body from messages where chat_id = ? order by message_id desc limit ?"
        )
        rows = self._db.execute(query, [chat_id, newest]).fetchall()
        return [(row["author"], json.loads(row["body"])) for row in reversed(rows)]

    def remove_message(self, message_id: int) -> None:
        self._db.execute("delete from messages where message_id = ?", [message_id])

    # Updates

    def add_update(self, kind: str, person_id: int, body: Json, now: float) -> int:
        update_id = int(
            self.setting("next_update_id", None) or 100_000_000 + secrets.randbelow(800_000_000)
        )
        self.put_setting("next_update_id", update_id + 1)
        insert = (
            "insert into updates (update_id, kind, person_id, made_at, body) values (?, ?, ?, ?, ?)"
        )
        self._db.execute(insert, [update_id, kind, person_id, now, _dumped(body)])
        return update_id

    def repeat_update(self, update: Update) -> None:
        """Queue an update again. A higher offset confirms it only after it was delivered."""
        replace = (
            "insert or replace into updates (update_id, kind, person_id, made_at, body, again)"
            " values (?, ?, ?, ?, ?, 1)"
        )
        values = [
            update.update_id,
            update.kind,
            update.person_id,
            update.made_at,
            _dumped(update.body),
        ]
        self._db.execute(replace, values)

    def pending_updates(self, limit: int) -> list[Update]:
        rows = self._db.execute("select * from updates order by update_id limit ?", [limit])
        return [
            Update(
                row["update_id"],
                row["kind"],
                row["person_id"],
                row["made_at"],
                json.loads(row["body"]),
            )
            for row in rows
        ]

    def pending_update_count(self) -> int:
        return int(self._db.execute("select count(*) from updates").fetchone()[0])

    def mark_handed_out(self, updates: list[Update]) -> None:
        mark = "update updates set handed_out = 1 where update_id = ?"
        self._db.executemany(mark, [[update.update_id] for update in updates])

    def confirm_updates(self, below: int) -> None:
        self._db.execute(
            "delete from updates where update_id < ? and (again = 0 or handed_out = 1)", [below]
        )

    def confirm_all_but_newest(self, count: int) -> None:
        delete = (
            "delete from updates where update_id not in"
            " (select update_id from updates order by update_id desc limit ?)"
        )
        self._db.execute(delete, [count])

    def remove_update(self, update_id: int) -> None:
        self._db.execute("delete from updates where update_id = ?", [update_id])

    def drop_updates_older_than(self, made_at: float) -> None:
        self._db.execute("delete from updates where made_at < ?", [made_at])

    def redate_updates(self, by_s: int) -> None:
        self._db.execute("update updates set made_at = made_at + ?", [by_s])

    def drop_updates(self) -> int:
        return self._db.execute("delete from updates").rowcount

    # Callback queries and toasts

    def add_callback(self, person_id: int, now: float) -> str:
        callback_id = str(secrets.randbits(63))
        insert = "insert into callbacks (id, person_id, asked_at) values (?, ?, ?)"
        self._db.execute(insert, [callback_id, person_id, now])
        return callback_id

    def answer_callback(self, callback_id: str, asked_after: float) -> int | None:
        """Mark a query as answered.

        Returns its person, or None when it is unknown, answered or too old.
        """
        update = (
            "update callbacks set answered = 1"
            " where id = ? and answered = 0 and asked_at >= ? returning person_id"
        )
        row = self._row(update, callback_id, asked_after)
        return None if row is None else int(row["person_id"])

    def add_toast(self, person_id: int, kind: str, text: str, *, alert: bool, now: float) -> None:
        insert = "insert into toasts (person_id, made_at, kind, text, alert) values (?, ?, ?, ?, ?)"
        self._db.execute(insert, [person_id, now, kind, text, alert])
        delete = (
            "delete from toasts where id in"
            " (select id from toasts where person_id = ? order by id desc limit -1 offset ?)"
        )
        self._db.execute(delete, [person_id, TOASTS_KEPT])

    def toasts(self, person_id: int) -> list[Json]:
        rows = self._db.execute("select * from toasts where person_id = ? order by id", [person_id])
        return [
            {
                "id": r["id"],
                "at": r["made_at"],
                "kind": r["kind"],
                "text": r["text"],
                "alert": bool(r["alert"]),
            }
            for r in rows
        ]

    # Invoices and payments

    def add_invoice(self, draft: InvoiceDraft, message_id: int | None) -> str:
        slug = secrets.token_urlsafe(12)
        insert = "insert into invoices (slug, message_id, draft) values (?, ?, ?)"
        self._db.execute(insert, [slug, message_id, _dumped(asdict(draft))])
        return slug

    def invoice(self, slug: str) -> Invoice | None:
        return _invoice(self._row("select * from invoices where slug = ?", slug))

    def invoice_of_message(self, message_id: int) -> Invoice | None:
        return _invoice(self._row("select * from invoices where message_id = ?", message_id))

    def add_checkout(self, person_id: int, slug: str, now: float) -> str:
        checkout_id = str(secrets.randbits(63))
        insert = "insert into checkouts (id, person_id, slug, asked_at) values (?, ?, ?, ?)"
        self._db.execute(insert, [checkout_id, person_id, slug, now])
        return checkout_id

    def checkout(self, checkout_id: str) -> Checkout | None:
        return _checkout(self._row("select * from checkouts where id = ?", checkout_id))

    def checkout_of_charge(self, charge: str) -> Checkout | None:
        return _checkout(self._row("select * from checkouts where charge = ?", charge))

    def was_paid(self, slug: str) -> bool:
        return (
            self._row("select 1 from checkouts where slug = ? and state = 'paid'", slug) is not None
        )

    def end_checkout(self, checkout_id: str, state: CheckoutState) -> None:
        self._db.execute("update checkouts set state = ? where id = ?", [state, checkout_id])

    def mark_paid(self, checkout_id: str, charge: str) -> None:
        self._db.execute(
            "update checkouts set state = 'paid', charge = ? where id = ?", [charge, checkout_id]
        )

    def keep_report(self, checkout_id: str, update_id: int | None, report: Json) -> None:
        update = "update checkouts set report_id = ?, report = ? where id = ?"
        self._db.execute(update, [update_id, _dumped(report), checkout_id])

    def payments(self) -> list[Checkout]:
        rows = self._db.execute(
            "select * from checkouts where state = 'paid' order by asked_at"
        ).fetchall()
        return [checkout for row in rows if (checkout := _checkout(row)) is not None]

    def add_star_transaction(self, moved: StarTransaction) -> bool:
        """Returns False when this charge has moved in this direction before."""
        insert = (
            "insert or ignore into star_transactions"
            " (charge, direction, person_id, amount, payload, made_at) values (?, ?, ?, ?, ?, ?)"
        )
        values = [
            moved.charge,
            moved.direction,
            moved.person_id,
            moved.amount,
            moved.payload,
            moved.made_at,
        ]
        return self._db.execute(insert, values).rowcount == 1

    def star_transactions(self, offset: int, limit: int) -> list[StarTransaction]:
        """Star transactions in their order."""
        rows = self._db.execute(
            "select * from star_transactions order by seq limit ? offset ?", [limit, offset]
        )
        return [
            StarTransaction(
                r["charge"], r["direction"], r["person_id"], r["amount"], r["payload"], r["made_at"]
            )
            for r in rows
        ]

    def star_balance(self) -> int:
        """The bot's Stars: payments less refunds."""
        query = (
            "select coalesce(sum(case direction when 'in' then amount else -amount end), 0)"
            " from star_transactions"
        )
        return int(self._db.execute(query).fetchone()[0])

    # Photos

    def add_photo(self, photo: Photo) -> None:
        insert = (
            "insert into photos (file_id, width, height, media_type, content)"
            " values (?, ?, ?, ?, ?)"
        )
        values = [photo.file_id, photo.width, photo.height, photo.media_type, photo.content]
        self._db.execute(insert, values)

    def photo(self, file_id: str) -> Photo | None:
        row = self._row("select * from photos where file_id = ?", file_id)
        return None if row is None else Photo(**dict(row))

    def _insert(self, insert: str, *values: object) -> int:
        row_id = self._db.execute(insert, values).lastrowid
        assert row_id is not None
        return row_id


def _dumped(body: Json) -> str:
    return json.dumps(body, ensure_ascii=False, separators=(",", ":"))


def _person(row: sqlite3.Row) -> Person:
    known = dict(row)
    flags = {name: bool(known[name]) for name in ("started", "blocked", "deactivated")}
    return Person(**{**known, **flags})


def _invoice(row: sqlite3.Row | None) -> Invoice | None:
    if row is None:
        return None
    return Invoice(row["slug"], row["message_id"], InvoiceDraft(**json.loads(row["draft"])))


def _checkout(row: sqlite3.Row | None) -> Checkout | None:
    if row is None:
        return None
    report = json.loads(row["report"]) if row["report"] else None
    return Checkout(**{**dict(row), "report": report})
