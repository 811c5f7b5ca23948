"""Odd texts, amounts and plans at the pure entry points: shown or refused, never an exception."""

import json
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from click.testing import CliRunner

from bot_gateway.chats import buy_screens, screens
from bot_gateway.chats.buy_screens import Offer
from bot_gateway.domain.people import invitation_in, language_of, name_of, payload_of
from bot_gateway.domain.updates import read_json, readable, report_from, update_from
from bot_gateway.telegram import open_bot
from shared.contracts.money import Money, shown
from shared.contracts.payments import MAX_PLAN_CHARACTERS, Plan, Plans, Price, ReceiptLine, Receipts
from shared.platform.texts import Texts
from tests.kit.bot import TOKEN, message_update, paid_update, refunded_update
from tests.kit.bot_payments import STARS
from tests.kit.odd import DEEP, DEPTH, TEXTS
from turnpike_cli.main import main

TEXTS_OF_BOT = Texts("bot_gateway")
odd_texts = pytest.mark.parametrize("odd", TEXTS.values(), ids=TEXTS.keys())


def say(key: str, /, **arguments: Any) -> str:
    return TEXTS_OF_BOT("en", key, **arguments)


def storable(value: object) -> bool:
    text = json.dumps(value, ensure_ascii=False)
    return "\\u0000" not in text and text == text.encode(errors="replace").decode()


@odd_texts
def test_a_readable_update_can_be_stored_and_sent(odd: str) -> None:
    """N-41."""
    assert storable(readable({odd: [odd, {"first_name": odd, "id": 7}], "date": 1.5}))


@odd_texts
def test_names_and_deep_links_are_cleaned(odd: str) -> None:
    """N-41: a name is stored; a link's payload of another form is none."""
    assert storable(name_of(odd))
    assert len(name_of(odd)) <= 128
    assert payload_of(odd) is None
    assert invitation_in(odd) is None
    assert language_of(odd) == "en"


def test_an_update_of_any_depth_is_stored() -> None:
    """N-41: the parts that are nested too deeply become null; the rest is as it was."""
    text = json.dumps(message_update(5, text="/start"))[:-1] + f', "deep": {DEEP}, "after": "[{{"}}'
    raw = read_json(text)
    assert json.loads(update_from(raw).body)["message"]["text"] == "/start"
    assert raw["after"] == "[{"
    with pytest.raises(ValueError):
        read_json("[" * DEPTH)


class Unpaced:
    async def __call__(self) -> None:
        """No message is sent."""

    async def give_back(self) -> None:
        """No token was taken."""

    async def refused(self, chat: int, retry_after: timedelta) -> None:
        """No message is refused."""


def test_polling_reads_updates_of_any_depth() -> None:
    """N-41: one such update would hold back all the others."""
    bot = open_bot(TOKEN, "http://127.0.0.1:1", Unpaced())
    assert bot.session.json_loads(f'{{"ok": true, "result": {DEEP}}}')["ok"] is True


@pytest.mark.parametrize("update", [paid_update, refunded_update])
@pytest.mark.parametrize("field", ["telegram_payment_charge_id", "currency"])
@pytest.mark.parametrize("odd", ["\ud800", "nul\x00"])
def test_money_with_an_odd_id_is_unreadable(update: Any, field: str, odd: str) -> None:
    """M-08: it is set aside, kept and found; nothing replaces a part of a charge's id."""
    with pytest.raises(ValueError):
        report_from(update(5, "charge", **{field: odd}))


@odd_texts
def test_an_odd_payload_is_booked_all_the_same(odd: str) -> None:
    """M-08: the money came; such a payload names no order."""
    assert storable(report_from(paid_update(5, "charge", payload=odd)).payload)


@pytest.mark.parametrize("currency", ["USD", "", "<b>", "XYZ" * 9])
def test_any_currency_can_be_shown(currency: str) -> None:
    """N-41: on the support screen."""
    assert shown(149_900, currency).startswith("1\u202f499")
    assert Money(5, currency, signed=True).shown("ru")
    paid = ReceiptLine(
        charge="<c>", paid_at="2026-11-22T12:00:00Z", currency=currency, amount_minor=5
    )
    text = screens.support(None, Receipts(lines=(paid,)), say).text
    assert "<b>" not in text.replace("<b>Support</b>", "").replace("<b>Your last payments</b>", "")


def plan(name: str, *months: int) -> Plan:
    prices = tuple(Price(months=one, price_minor=14_900, stars=99) for one in months)
    return Plan(plan=name, devices=5, traffic_bytes=None, prices=prices)


@pytest.mark.parametrize("name", ["a:b", "x" * 29, "я" * 20, "p" * 200, "\ud800" * 3])
def test_a_plan_without_a_button_is_not_offered(name: str) -> None:
    """N-42: its button would fail the screen of all plans."""
    offered = Plans.model_construct(
        plans=(plan("basic", 1), Plan.model_construct(**(plan("b", 12).__dict__ | {"plan": name}))),
        ways=(STARS,),
    )
    left = buy_screens.on_buttons(offered)
    assert [one.plan for one in left.plans] == ["basic"]


def test_a_period_without_a_button_is_not_offered() -> None:
    """N-42: a button names 1 to 120 months."""
    left = buy_screens.on_buttons(
        Plans(plans=(plan("a", 1, 121, 0), plan("b", 500)), ways=(STARS,))
    )
    assert [(one.plan, [price.months for price in one.prices]) for one in left.plans] == [
        ("a", [1])
    ]


@pytest.mark.parametrize("months", [1, 12, 120])
def test_an_offered_plan_fits_every_button(months: int) -> None:
    """N-42: the longest name that is offered has its screens."""
    longest = max(
        (plan("x" * length, months) for length in range(1, 40)),
        key=lambda one: (
            len(one.plan) if buy_screens.on_buttons(Plans(plans=(one,), ways=())).plans else 0
        ),
    )
    assert len(longest.plan) == MAX_PLAN_CHARACTERS
    buy_screens.plans(Plans(plans=(longest,), ways=(STARS,)), say)
    buy_screens.periods(longest, (STARS,), say)
    offer = Offer(longest, longest.prices[0], (STARS,), 14_900, None)
    buy_screens.ways(offer, uuid4(), say)


@pytest.mark.parametrize(
    "arguments",
    [["why", "\udcff"], ["why", "x" * 9_000], ["dead-letters", "show", "payments", "\ud800"]],
)
def test_odd_arguments_are_refused(arguments: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """W-43: with one sentence and status 2, before anything is asked."""
    monkeypatch.setenv("TURNPIKE_NATS_URL", "nats://127.0.0.1:1")
    refused = CliRunner().invoke(main, arguments)
    assert refused.exit_code == 2, refused.output
    assert "Traceback" not in refused.output
