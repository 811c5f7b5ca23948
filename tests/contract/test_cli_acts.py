"""The commands with which operators act, as processes, against bot-gateway's and payments' acts."""

import json
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import UUID, uuid4

import pytest
from pydantic import SecretStr

from bot_gateway.commands.set_operator import set_operator
from bot_gateway.domain.people import Arrival
from bot_gateway.queries import (
    answer_operator,
    answer_operators,
    answer_person,
    answer_recipient,
)
from bot_gateway.store import people
from payments.app import build
from payments.settings import Settings
from shared.contracts.bot import (
    OperatorQuery,
    OperatorsQuery,
    PersonQuery,
    RecipientQuery,
    SetOperator,
)
from shared.contracts.owners import OWNERS
from shared.messaging.idempotency import execute
from tests.kit.commands import bare_services, living, turnpike
from tests.kit.operators import by_operator
from tests.kit.payments import paid, placed, report, rubles, stars, wallet
from tests.kit.servers import FreshDatabase, MakeDatabase
from turnpike_local.broker import Broker
from turnpike_local.ports import free_port

OWNER = ("olga",)
WHY = ("--reason", "a mistake of ours")


class Shop:
    """Five services; payments is whole, and bot-gateway knows its operators and people."""

    def __init__(self, schemas: FreshDatabase, nats_url: str) -> None:
        self.nats_url = nats_url
        self.services = bare_services(schemas, nats_url)
        bot = self.services["bot"]
        bot.answers(OperatorQuery, partial(answer_operator, owners=OWNER))
        bot.answers(OperatorsQuery, partial(answer_operators, owners=OWNER))
        bot.executes(SetOperator, partial(set_operator, owners=OWNER))
        bot.answers(PersonQuery, answer_person)
        bot.answers(RecipientQuery, answer_recipient)
        self.services["payments"] = build(
            Settings(
                dsn=SecretStr(schemas.dsn("payments_app")),
                nats_url=SecretStr(nats_url),
                http_port=free_port(),
            )
        )
        self.payments = self.services["payments"].database

    async def turnpike(self, *arguments: str, operator: str = "olga") -> tuple[int, str, str]:
        variables = {"TURNPIKE_NATS_URL": self.nats_url, "TURNPIKE_OPERATOR": operator}
        return await turnpike(*arguments, **variables)

    async def done(self, *arguments: str, operator: str = "olga") -> str:
        """The output of a command that did its job."""
        status, out, err = await self.turnpike(*arguments, operator=operator)
        assert (status, err) == (0, ""), (out, err)
        return out

    async def person(self, telegram_id: int) -> UUID:
        arrival = Arrival(telegram_id, "Name", None, "en", None)
        async with self.services["bot"].database.transaction() as tx:
            started = await people.start_person(arrival, None, tx)
        assert started is not None
        return started.person


@pytest.fixture(scope="module")
async def shop(fresh_database: MakeDatabase, broker: Broker) -> AsyncIterator[Shop]:
    await broker.wipe()
    subject = Shop(await fresh_database(*OWNERS), broker.url)
    async with living(list(subject.services.values())):
        yield subject


async def test_an_unknown_operator_gets_a_sentence(shop: Shop) -> None:
    """R-88: no command does anything."""
    add = ("balance", "add", str(uuid4()), "5", *WHY)
    status, out, err = await shop.turnpike(*add, operator="ivan")
    assert (status, out) == (2, "")
    assert err.startswith("ivan is no operator of this shop. An owner adds one: turnpike operators")
    status, out, err = await shop.turnpike(*add, "--as", "two words")
    assert status == 2
    assert "an operator is 1 to 64 of" in err


async def test_an_owner_gives_and_takes_roles(shop: Shop) -> None:
    """R-86, R-88: support may not act with money, and its refusal stands in the audit log."""
    assert await shop.done("operators", "set", "sam", "support", *WHY) == "sam is now support.\n"
    listed = await shop.done("operators", "list")
    assert [line.split()[:2] for line in listed.splitlines()[1:]] == [
        ["olga", "owner"],
        ["sam", "support"],
    ]
    person = await shop.person(11)
    add = ("balance", "add", "11", "149.50", *WHY)
    answer = await shop.turnpike(*add, operator="sam")
    assert answer == (1, "", "Refused: your role does not allow it.\n")
    assert await wallet(person, shop.payments) == 0
    acts = json.loads(await shop.done("acts", "--of", "11", "--json"))["acts"]
    assert [(one["role"], one["refusal"]) for one in acts] == [("support", "not_allowed")]
    assert await shop.done("operators", "remove", "sam", *WHY) == "sam is no operator any more.\n"
    status, _, err = await shop.turnpike("operators", "remove", "olga", *WHY)
    assert (status, err) == (
        1,
        "Refused: the setting TURNPIKE_OWNERS of bot-gateway names this owner.\n",
    )


async def test_a_balance_is_added_and_taken(shop: Shop) -> None:
    """R-89: rubles with kopecks; PERSON is a Telegram id or a person's id."""
    person = await shop.person(12)
    out = await shop.done("balance", "add", "12", "149.50", *WHY)
    assert out == "Added 149.50 RUB; the wallet holds 149.50 RUB now.\n"
    out = await shop.done("balance", "take", str(person), "49", *WHY)
    assert out == "Took 49.00 RUB; the wallet holds 100.50 RUB now.\n"
    refused = await shop.turnpike("balance", "take", "12", "101", *WHY)
    assert refused == (1, "", "Refused: the wallet lacks 0.50 RUB for that.\n")
    assert await wallet(person, shop.payments) == 10_050
    shown = await shop.done("acts", "--of", "12")
    assert "adjust_balance" in shown
    assert "wallet 0.00 RUB → 149.50 RUB" in shown
    assert "balance_short: a mistake of ours" in shown
    assert max(len(line) for line in shown.splitlines()) <= 100


async def test_a_gift_comes_from_promotions(shop: Shop) -> None:
    """R-89: the other side of a credit is named; the audit compares it with the act."""
    person = await shop.person(15)
    await shop.done("balance", "add", "15", "50", "--from", "promotions", *WHY)
    await shop.done("balance", "add", "15", "20", "--from", "opening", *WHY)
    await shop.done("balance", "take", "15", "10", "--from", "promotions", *WHY)
    assert await wallet(person, shop.payments) == 6_000
    lines = [" ".join(one.split()) for one in (await shop.done("accounts")).splitlines()]
    assert "promotions -40.00 RUB" in lines
    assert "opening -20.00 RUB" in lines
    status, _, err = await shop.turnpike("balance", "add", "15", "5", "--from", "revenue", *WHY)
    assert status == 2
    assert "'revenue' is not one of 'adjustments', 'promotions', 'opening'" in err


async def test_an_owner_books_a_withdrawal(shop: Shop) -> None:
    """R-118: only an owner, at most what is held, and back again."""
    await shop.done("operators", "set", "ann", "admin", *WHY)
    await report(shop.payments, rubles(await shop.person(16), 50_000, acquirer="yookassa"))
    take = ("withdrawn", "yookassa")
    out = await shop.done(*take, "300", "RUB", *WHY)
    assert out == "Booked: 300.00 RUB taken from yookassa, which holds 200.00 RUB now.\n"
    out = await shop.done(*take, "100", "RUB", "--back", *WHY)
    assert out == "Booked: 100.00 RUB put into yookassa, which holds 300.00 RUB now.\n"
    refused = await shop.turnpike(*take, "300.01", "RUB", *WHY)
    assert refused == (1, "", "Refused: by the ledger it holds 300.00 RUB.\n")
    refused = await shop.turnpike(*take, "1", "RUB", *WHY, operator="ann")
    assert refused == (1, "", "Refused: your role does not allow it.\n")
    refused = await shop.turnpike("withdrawn", "the bank", "1", "RUB", *WHY)
    assert refused[0] == 1
    assert refused[2].startswith("Refused: there is no such acquirer; known are telegram_stars, ")
    for odd in (("1.5", "RUB"), ("1", "rub"), ("0", "RUB"), ("9" * 10, "USDT")):
        status, out, err = await shop.turnpike(*take, *odd, *WHY)
        assert (status, out) == (2, ""), err
        assert err.count("\n") == 1


@pytest.mark.parametrize(
    "amount", ["", "0", "0.00", "149.5", "149,50", "1e3", "149.505", "١٤٩", "one", "9" * 12]
)
async def test_an_odd_amount_gets_a_sentence(shop: Shop, amount: str) -> None:
    """R-89: a slip of the hand never becomes another amount."""
    status, out, err = await shop.turnpike("balance", "add", "12", amount, *WHY)
    assert (status, out) == (2, "")
    assert "is not an amount in rubles: write 149, or 149.50 with kopecks." in " ".join(err.split())


async def test_an_unknown_person_gets_a_sentence(shop: Shop) -> None:
    """R-89: money of a typing error would lie in the wallet of nobody."""
    nobody = uuid4()
    for named, sentence in (
        ("999", "Nobody with the Telegram id 999 started the bot.\n"),
        (str(nobody), f"The shop knows no person {nobody}.\n"),
    ):
        assert await shop.turnpike("balance", "add", named, "5", *WHY) == (2, "", sentence)
    status, _, err = await shop.turnpike("balance", "add", "bob", "5", *WHY)
    assert status == 2
    assert "'bob' is neither a Telegram id nor the id of a person." in err


async def test_the_catalogue_is_listed_and_changed(shop: Shop) -> None:
    """R-90: the list shows each change."""
    out = await shop.done("prices", "set", "basic", "3", "409.50", "275", *WHY)
    assert out == "basic for 3 months costs 409.50 RUB, or 275 XTR.\n"
    assert "409.50 RUB" in await shop.done("prices", "list")
    out = await shop.done("plans", "set", "plus", "--off-sale", "--traffic", "500", *WHY)
    assert out == "plus is not on sale: 10 devices, traffic 500 GiB.\n"
    [plus] = [one for one in (await shop.done("plans", "list")).splitlines() if "plus" in one]
    assert plus.split() == ["plus", "10", "500", "GiB", "default", "no"]
    out = await shop.done("ways", "set", "card", "--least", "64.50", *WHY)
    assert out == "card is on sale, from 64.50 RUB to 350000.00 RUB.\n"
    status, _, err = await shop.turnpike("ways", "set", "stars", "--least", "1.50", *WHY)
    assert (status, err) == (2, "'1.50' is not an amount in XTR: write 149.\n")
    assert "telegram_stars" in await shop.done("ways", "list")
    unknown = await shop.turnpike("prices", "set", "none", "3", "1", "1", *WHY)
    assert unknown == (1, "", "Refused: there is no such plan; see turnpike plans list.\n")


async def test_a_rate_is_added(shop: Shop) -> None:
    """R-91."""
    at = datetime.now(UTC) + timedelta(days=1)
    begins = f"{at:%Y-%m-%dT%H:%M}"
    out = await shop.done("rates", "set", "XTR", "1.52", "--from", begins, *WHY)
    assert out == f"From {at:%Y-%m-%d %H:%M}:00 UTC 1 XTR is worth 1.52 RUB.\n"
    states = [line.split()[-1] for line in (await shop.done("rates", "list")).splitlines()[1:]]
    assert states == ["future", "present"]
    status, _, err = await shop.turnpike("rates", "set", "XTR", "2", "--from", "2026-01-01", *WHY)
    assert status == 1
    assert err.startswith("Refused: a rate begins a minute from now at the earliest: ")


async def test_parked_money_is_given_once(shop: Shop) -> None:
    """R-92: to a wallet; the second terminal reads who was first in the audit log."""
    person = await shop.person(13)
    receipt = stars(None, 100)
    await report(shop.payments, receipt)
    assert str(receipt.id) in await shop.done("parked", "list")
    give = ("parked", "to-wallet", str(receipt.id), "13", "--rate", "2", *WHY)
    out = await shop.done(*give)
    assert out == f"200.00 RUB are in the wallet of person {person} (no_order).\n"
    status, _, err = await shop.turnpike(*give)
    assert (status, err) == (
        1,
        "Refused: somebody resolved this receipt already; see turnpike acts.\n",
    )
    assert await wallet(person, shop.payments) == 20_000


async def test_parked_money_buys_what_it_named(shop: Shop) -> None:
    """R-93: the order of the payload, and the receipt by its first characters."""
    person = await shop.person(14)
    order = await placed(person, shop.payments)
    receipt = paid(order, None)
    await report(shop.payments, receipt)
    out = await shop.done("parked", "to-order", str(receipt.id)[:8], *WHY)
    assert out == f"149.00 RUB bought order {order.order} of person {person}.\n"
    status, _, err = await shop.turnpike("parked", "to-order", str(receipt.id)[:8], *WHY)
    assert (status, err) == (2, f"No parked receipt begins with {str(receipt.id)[:8]}.\n")
    assert await shop.done("parked", "list") == "No money is parked.\n"


async def test_acts_are_paged_newest_first(shop: Shop) -> None:
    """R-87: the acts of all services in one list."""
    give = partial(set_operator, owners=OWNER)
    for number in range(21):
        command = SetOperator(**by_operator(), operator=f"page{number}", new_role="support")
        await execute(shop.services["bot"].database, command, give)
    first = json.loads(await shop.done("acts", "--json"))
    assert first["more"]
    assert [one["wanted"]["operator"] for one in first["acts"]] == [
        f"page{number}" for number in range(20, 0, -1)
    ]
    second = await shop.done("acts", "--page", "2")
    assert "page0" in second
    assert (await shop.done("acts", "--page", "400")) == "There are no acts.\n"
