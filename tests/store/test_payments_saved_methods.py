"""Saved methods with the real client and YooKassa's stand-in: consent, charges, and the end."""

from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, cast
from uuid import UUID, uuid4

import pytest

from payments.commands.forget_method import forget_method
from payments.commands.open_invoice import open_invoice
from payments.domain.provider import Method
from payments.queries import answer_balance, answer_invoice, answer_plans, answer_rest
from shared.contracts.message import Refused
from shared.contracts.payments import (
    BalanceQuery,
    ForgetMethod,
    ForgottenMethod,
    InvoiceQuery,
    OpenedInvoice,
    PlansQuery,
    RestQuery,
    SavedMethod,
)
from shared.messaging.idempotency import execute
from tests.kit.payments import asking, by
from tests.kit.providers import YookassaStage, read_one, yookassa_stage
from tests.kit.servers import MakeDatabase
from tests.kit.ways_in import PROVIDERS, Till, a_till

SAVES = frozenset({"yookassa"})
TITLE = "Bank card *4444"
SAVED = "select person, method, title from saved_methods order by saved_at, id"
REASONS = """
select body ->> 'reason' as reason from events where topic = 'payments.invoice.refused' order by seq
"""
SPOKEN = """
select body::text as text from events
union all
select request::text || answer::text from commands where answer is not null
"""


@dataclass
class Shop:
    """The shop that may save methods, and YooKassa."""

    till: Till
    stage: YookassaStage

    async def ask(
        self, person: UUID, way: Any = "card", *, order: UUID | None = None, remember: bool = False
    ) -> OpenedInvoice | Refused:
        wanted = asking(person, order or await self.till.order(person), way)
        act = partial(open_invoice, providers=PROVIDERS, saves=SAVES)
        wanted = wanted.model_copy(update={"remember": remember})
        answer = await execute(self.till.database, wanted, act)
        assert isinstance(answer, OpenedInvoice | Refused)
        return answer

    async def invoice(self, person: UUID, way: Any = "card", **asked: Any) -> OpenedInvoice:
        answer = await self.ask(person, way, **asked)
        assert isinstance(answer, OpenedInvoice), answer
        return answer

    async def open(self) -> None:
        await self.till.turn(self.till.opener)

    async def reference(self, asked: OpenedInvoice) -> str:
        await self.open()
        return str((await self.till.row(asked.invoice))["reference"])

    async def watch(self) -> None:
        await self.till.turn(self.till.watcher)

    async def save(self, person: UUID) -> SavedMethod:
        """The person pays by a card, and lets the shop remember it."""
        asked = await self.invoice(person, remember=True)
        await self.stage.pay(await self.reference(asked))
        await self.watch()
        return (await self.methods(person))[0]

    async def methods(self, person: UUID) -> tuple[SavedMethod, ...]:
        query, on = PlansQuery(person=person), self.till.database
        return (await answer_plans(query, on, providers=PROVIDERS, saves=SAVES)).saved

    async def charge(self, person: UUID, method: SavedMethod, **asked: Any) -> OpenedInvoice:
        """It is placed, charged and read back."""
        asked_ = await self.invoice(person, method.name, **asked)
        await self.open()
        await self.watch()
        return asked_

    async def token(self) -> str:
        rows = await self.till.database.fetch(SAVED)
        return str(rows[-1]["method"])

    async def state(self, asked: OpenedInvoice) -> str:
        return str((await self.till.row(asked.invoice))["state"])

    async def reasons(self) -> list[str]:
        return [row["reason"] for row in await self.till.database.fetch(REASONS)]

    async def forget(self, person: UUID, name: str) -> Any:
        wanted = ForgetMethod(**by(person), method=name)
        return await execute(self.till.database, wanted, forget_method)


@pytest.fixture
async def shop(fresh_database: MakeDatabase, tmp_path: Path) -> AsyncIterator[Shop]:
    async with yookassa_stage(tmp_path) as stage:
        stage.later(seconds=(datetime.now(UTC) - stage.now()).total_seconds())
        async with a_till(fresh_database, cast(Any, stage.provider)) as till:
            yield Shop(till, stage)


# Consent


async def test_a_method_is_saved_with_consent(shop: Shop) -> None:
    """R-131: it is the person's own way to pay, and nobody else's."""
    person = uuid4()
    method = await shop.save(person)
    assert (method.way, method.title) == ("card", TITLE)
    assert await shop.methods(uuid4()) == ()
    held = await answer_balance(BalanceQuery(person=person), shop.till.database)
    assert held.saved == (method,)


async def test_nothing_is_saved_without_consent(shop: Shop) -> None:
    """R-131: neither unasked, nor where the operator has not turned it on."""
    person = uuid4()
    await shop.stage.pay(await shop.reference(await shop.invoice(person)))
    wanted = asking(person, await shop.till.order(person), "card")
    wanted = wanted.model_copy(update={"remember": True})
    act = partial(open_invoice, providers=PROVIDERS)
    unsaved = await execute(shop.till.database, wanted, act)
    assert isinstance(unsaved, OpenedInvoice)
    assert unsaved.remembers is None
    await shop.stage.pay(await shop.reference(unsaved))
    for _ in range(2):
        await shop.watch()
    assert len(await shop.till.bookings()) == 2
    assert await shop.methods(person) == ()


async def test_consent_makes_another_invoice(shop: Shop) -> None:
    """R-132: the key of an invoice stands for one body, and consent is a part of it."""
    person = uuid4()
    first = await shop.invoice(person)
    plain = await shop.reference(first)
    agreed = await shop.invoice(person, order=first.order, remember=True)
    assert (first.remembers, agreed.remembers) == (False, True)
    assert agreed.invoice != first.invoice
    again = await shop.invoice(person, order=first.order, remember=True)
    assert again.invoice == agreed.invoice
    assert await shop.reference(agreed) != plain
    assert await shop.stage.count() == 2


@pytest.mark.parametrize("agreed", [True, False])
async def test_consent_can_be_taken_back(shop: Shop, *, agreed: bool) -> None:
    """R-131: a page that was left open saves nothing any more, nor one without consent."""
    first = await shop.invoice(person := uuid4(), remember=agreed)
    left_open = await shop.reference(first)
    await shop.invoice(person, order=first.order, remember=not agreed)
    await shop.stage.pay(left_open)
    told = await read_one(shop.stage, left_open)
    await shop.till.take_in(replace(told, method=Method("m", "card", "")))
    assert await shop.till.bookings() == [("bought", "paid")]
    assert await shop.methods(person) == ()


async def test_a_forgotten_method_stays_forgotten(shop: Shop) -> None:
    """R-133: the payment that saved it comes again, by a notice and the listing."""
    person = uuid4()
    agreed = await shop.invoice(person, remember=True)
    reference = await shop.reference(agreed)
    await shop.stage.pay(reference)
    told = await read_one(shop.stage, reference)
    await shop.till.take_in(told)
    await shop.till.take_in(told)
    [method] = await shop.methods(person)
    assert await shop.forget(person, method.name) == ForgottenMethod(method=method.name)
    await shop.till.take_in(told)
    assert await shop.methods(person) == ()
    assert len(await shop.till.bookings()) == 1


async def test_a_method_is_forgotten_once(shop: Shop) -> None:
    """R-133: by its own person; a repeated command is answered again."""
    person = uuid4()
    method = await shop.save(person)
    assert await shop.forget(uuid4(), method.name) == Refused(reason="method_unknown")
    wanted = ForgetMethod(**by(person), method=method.name)
    for _ in range(2):
        answer = await execute(shop.till.database, wanted, forget_method)
        assert answer == ForgottenMethod(method=method.name)
    assert await shop.methods(person) == ()


async def test_a_person_keeps_few(shop: Shop) -> None:
    """R-134: the oldest is forgotten; of two that look the same, the older one."""
    person = uuid4()
    for title in ("Bank card *0001", "Bank card *0002", "", "Bank card *0004", "Bank card *0002"):
        agreed = await shop.invoice(person, remember=True)
        reference = await shop.reference(agreed)
        await shop.stage.pay(reference)
        told = await read_one(shop.stage, reference)
        assert told.method is not None
        await shop.till.take_in(replace(told, method=replace(told.method, title=title)))
    titles = [row["title"] for row in await shop.till.database.fetch(SAVED)]
    assert titles == ["", "Bank card *0004", "Bank card *0002"]


async def test_a_foreign_method_is_not_taken(shop: Shop) -> None:
    """R-134: a payment of another person names it; it stays where it is."""
    owner, other = uuid4(), uuid4()
    method = await shop.save(owner)
    token = await shop.token()
    agreed = await shop.invoice(other, remember=True)
    reference = await shop.reference(agreed)
    await shop.stage.pay(reference)
    told = await read_one(shop.stage, reference)
    assert told.method is not None
    await shop.till.take_in(replace(told, method=replace(told.method, id=token)))
    assert await shop.methods(other) == ()
    assert await shop.methods(owner) == (method,)
    assert await shop.ask(other, method.name) == Refused(reason="method_unknown")


async def test_a_refund_leaves_the_method(shop: Shop) -> None:
    """The consent was given for later payments, and this one is over."""
    agreed = await shop.invoice(person := uuid4(), remember=True)
    reference = await shop.reference(agreed)
    await shop.stage.pay(reference)
    await shop.stage.till.control.refund_in_cabinet(reference)
    await shop.watch()
    assert len(await shop.methods(person)) == 1


# Charges


async def test_a_saved_method_pays_without_a_page(shop: Shop) -> None:
    """R-132: it is read back, and booked as any payment."""
    person = uuid4()
    asked = await shop.charge(person, await shop.save(person))
    assert (asked.charges, asked.way, asked.pay_url) == (True, "card", None)
    assert await shop.till.bookings() == [("bought", "paid")] * 2
    assert await shop.state(asked) == "paid"
    assert await shop.reasons() == []
    assert len(await shop.methods(person)) == 1


async def test_the_ways_of_an_order_name_it(shop: Shop) -> None:
    """And those of a shop that may not charge it do not."""
    method = await shop.save(person := uuid4())
    query = RestQuery(person=person, order=await shop.till.order(person))
    for saves in (SAVES, frozenset[str]()):
        rest = await answer_rest(query, shop.till.database, providers=PROVIDERS, saves=saves)
        assert not isinstance(rest, Refused)
        assert rest.saved == ((method,) if saves else ())
    act = partial(open_invoice, providers=PROVIDERS)
    wanted = asking(person, query.order, cast(Any, method.name))
    assert await execute(shop.till.database, wanted, act) == Refused(reason="way_closed")


async def test_two_taps_charge_once(shop: Shop) -> None:
    """R-135: before the call, after it, and after its invoice has ended here."""
    person = uuid4()
    method = await shop.save(person)
    await shop.stage.till.control.plan_pending_charge()
    first = await shop.invoice(person, method.name)
    again = [await shop.invoice(person, method.name, order=first.order)]
    await shop.open()
    again.append(await shop.invoice(person, method.name, order=first.order))
    await shop.till.database.execute("update invoices set expires_at = now() - interval '1 hour'")
    again.append(await shop.invoice(person, method.name, order=first.order))
    await shop.invoice(person, "sbp", order=first.order)
    again.append(await shop.invoice(person, method.name, order=first.order))
    assert {one.invoice for one in again} == {first.invoice}
    await shop.watch()
    assert await shop.stage.count() == 2
    await shop.stage.pay(str((await shop.till.row(first.invoice))["reference"]))
    await shop.watch()
    assert await shop.till.bookings() == [("bought", "paid")] * 2


@pytest.mark.parametrize("how", ["lost", "500_after", "500", "202"])
async def test_an_unclear_answer_charges_once(shop: Shop, how: str) -> None:
    """R-135: the same key again, after any effect of the first call."""
    person = uuid4()
    method = await shop.save(person)
    await shop.stage.break_next("create", how)
    asked = await shop.invoice(person, method.name)
    for _ in range(3):
        await shop.open()
    await shop.watch()
    assert await shop.state(asked) == "paid"
    assert await shop.stage.count() == 2


async def test_a_lost_charge_of_a_forgotten_method(shop: Shop) -> None:
    """R-135: nothing is charged any more, and the money of the lost answer is booked."""
    person = uuid4()
    method = await shop.save(person)
    await shop.stage.break_next("create", "lost")
    asked = await shop.invoice(person, method.name)
    await shop.open()
    await shop.forget(person, method.name)
    for _ in range(2):
        await shop.open()
    await shop.watch()
    assert await shop.till.bookings() == [("bought", "paid")] * 2
    assert await shop.state(asked) == "paid"


async def test_a_forgotten_method_is_not_charged(shop: Shop) -> None:
    """R-133: also where its invoice was placed before."""
    person = uuid4()
    method = await shop.save(person)
    asked = await shop.invoice(person, method.name)
    await shop.forget(person, method.name)
    await shop.open()
    assert (await shop.state(asked), await shop.reasons()) == ("expired", ["method_gone"])
    assert await shop.stage.count() == 1


# Refusals


@pytest.mark.parametrize("pending", [False, True])
@pytest.mark.parametrize(
    ("code", "reason", "kept"),
    [
        ("permission_revoked", "method_gone", 0),
        ("card_expired", "method_gone", 0),
        ("payment_method_restricted", "method_gone", 0),
        ("insufficient_funds", "no_funds", 1),
        ("issuer_unavailable", "declined", 1),
    ],
)
async def test_a_refused_charge_says_why(
    shop: Shop, code: str, reason: str, kept: int, *, pending: bool
) -> None:
    """R-136: at once or later; a method that can be charged no more is forgotten."""
    person, control = uuid4(), shop.stage.till.control
    method = await shop.save(person)
    if pending:
        await control.plan_pending_charge()
    else:
        await control.decline_saved(await shop.token(), code)
    asked = await shop.invoice(person, method.name)
    await shop.open()
    if pending:
        await control.decline(str((await shop.till.row(asked.invoice))["reference"]), code)
    await shop.watch()
    assert await shop.reasons() == [reason]
    assert len(await shop.methods(person)) == kept
    query = InvoiceQuery(person=person, invoice=asked.invoice)
    seen = await answer_invoice(query, shop.till.database, saves=SAVES)
    assert isinstance(seen, OpenedInvoice)
    assert (seen.state, seen.refused) == ("expired", reason)
    other = await shop.invoice(person, "sbp", order=asked.order)
    await shop.stage.pay(await shop.reference(other))
    await shop.watch()
    assert await shop.till.bookings() == [("bought", "paid")] * 2


async def test_a_method_unknown_there_is_forgotten(shop: Shop) -> None:
    """R-136: it is another shop's, or YooKassa has dropped it."""
    person = uuid4()
    method = await shop.save(person)
    await shop.till.database.execute("update saved_methods set method = 'foreign'")
    await shop.charge(person, method)
    assert await shop.reasons() == ["method_gone"]
    assert await shop.methods(person) == ()


# Secrets


async def test_the_id_of_a_method_is_not_told(shop: Shop) -> None:
    """S-07: its id charges it, so it stands in no event, command, answer or text of a value."""
    person = uuid4()
    agreed = await shop.invoice(person, remember=True)
    reference = await shop.reference(agreed)
    await shop.stage.pay(reference)
    told = await read_one(shop.stage, reference)
    assert told.method is not None
    told = replace(told, method=replace(told.method, id="a-secret-id"))
    await shop.till.take_in(told)
    await shop.charge(person, (await shop.methods(person))[0])
    said = " ".join(row["text"] for row in await shop.till.database.fetch(SPOKEN))
    assert "method_gone" in said
    assert "a-secret-id" not in said + repr(told)
