"""Every screen in every language: no key missing, no argument forgotten, no button that Telegram would refuse."""

import ast
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from importlib import resources
from pathlib import Path
from typing import get_args
from uuid import UUID, uuid4

import pytest
from fluent.syntax import FluentParser
from fluent.syntax.ast import Junk, Message, VariableReference
from fluent.syntax.visitor import Visitor

import bot_gateway
from bot_gateway import screens
from bot_gateway.buttons import Pay
from bot_gateway.chats import COMMANDS
from bot_gateway.screens import Say, Screen
from shared.commands import Invoice
from shared.questions import (
    Access,
    Balance,
    BalanceLine,
    Checkout,
    Invitations,
    Key,
    Outlook,
    Plan,
    Plans,
    Price,
    ReceiptLine,
    Receipts,
)
from shared.texts import LANGUAGES, Texts

NOW = datetime(2026, 11, 22, 21, 13, tzinfo=UTC)
TEXTS = Texts("bot_gateway")
PLAN = Plan(plan="plus", devices=10, traffic_bytes=None, prices=(Price(months=12, price_minor=229900, stars=1529),))
ODD = PLAN.model_copy(update={"plan": "<b>odd&plan</b>"})
PLACED = Invoice(
    order=uuid4(),
    invoice=uuid4(),
    payload="p",
    plan="plus",
    months=12,
    price_minor=229900,
    asked_minor=1529,
    currency="XTR",
    expires_at=NOW,
    expires_in_s=1800,
)
BALANCE = Balance(
    wallet_minor=5000,
    earned_minor=1490,
    owed_minor=700,
    withdrawable_minor=0,
    lines=tuple(
        BalanceLine(at=NOW, reason=reason, amount_minor=amount)
        for reason, amount in (("receipt", 14900), ("purchase", -14900), ("reward", 1), ("new_reason", 0))
    ),
)
INVITATIONS = Invitations(invited=3, paying=2, earned_minor=1490, percent=10, next_level_at=25, next_percent=25)
OUTLOOK = Outlook(effect="converts", plan="basic", converted_hours=257, ends_at=NOW)
PAID = Receipts(lines=(ReceiptLine(charge="stx<1>", paid_at=NOW, currency="XTR", amount_minor=1529),))
KEY = Key(link="vless://8d4f@host:443?security=reality&sni=x<y", ends_at=NOW)

SCREENS: dict[str, Callable[[Say], Screen]] = {
    "welcome": screens.welcome,
    "hello": screens.hello,
    "menu": screens.menu,
    "language": screens.language,
    "terms": lambda say: screens.terms(say, accepted=True),
    "terms before they are accepted": lambda say: screens.terms(say, accepted=False),
    "paid": lambda say: screens.paid(1529, "XTR", say),
    "privacy": screens.privacy,
    "plans": lambda say: screens.plans(Plans(plans=(PLAN, ODD), ways=("stars",)), say),
    "no plans": lambda say: screens.plans(Plans(plans=(), ways=("stars",)), say),
    "periods": lambda say: screens.periods(PLAN, say),
    "ways": lambda say: screens.ways(PLAN, PLAN.prices[0], OUTLOOK, uuid4(), say),
    **{
        f"invoice that {effect}": partial(
            screens.invoice, PLACED, OUTLOOK.model_copy(update={"effect": effect}), "https://t.me/$slug"
        )
        for effect in get_args(Outlook.model_fields["effect"].annotation)
    },
    "invoice without an outlook": lambda say: screens.invoice(PLACED, None, "https://t.me/$slug", say),
    **{
        f"access {state}": partial(screens.access, Access(state=state, plan="plus", devices=10, ends_at=NOW), NOW)
        for state in get_args(Access.model_fields["state"].annotation)
    },
    "access of nobody": lambda say: screens.access(Access(state="up"), NOW, say),
    "key": lambda say: screens.key(KEY, say),
    "qr": lambda say: screens.qr_caption(KEY, say),
    "balance": lambda say: screens.balance(BALANCE, say),
    "empty balance": lambda say: screens.balance(BALANCE.model_copy(update={"lines": (), "owed_minor": 0}), say),
    "friends": lambda say: screens.friends(INVITATIONS, "https://t.me/bot?start=r_x", say),
    "friends at the top": lambda say: screens.friends(
        INVITATIONS.model_copy(update={"next_level_at": None, "next_percent": None}), "https://t.me/b?start=r_x", say
    ),
    "support": lambda say: screens.support("@turnpike_help", PAID, say),
    "support of nobody": lambda say: screens.support(None, PAID, say),
    "support before the first payment": lambda say: screens.support(None, Receipts(lines=()), say),
    "support without payments": lambda say: screens.support("@turnpike_help", None, say),
    "trouble": lambda say: screens.trouble("pay:plus:12:stars:x", say),
}


def saying(language: str) -> Say:
    return partial(TEXTS, language)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", SCREENS)
def test_every_screen_is_one_that_telegram_takes(name: str, language: str) -> None:
    """N-11: each text has its arguments; 4096 letters, 64 bytes in a button, one action, no empty words."""
    shown = SCREENS[name](saying(language))
    assert 0 < len(shown.text) <= 4096
    for button in (button for row in shown.rows for button in row):
        assert button.text.strip()
        assert (button.data is None) != (button.url is None)
        assert button.data is None or 1 <= len(button.data.encode()) <= 64
        assert button.url is None or button.url.startswith("https://t.me/")


@pytest.mark.parametrize("language", LANGUAGES)
def test_what_did_not_come_from_the_catalogue_is_escaped(language: str) -> None:
    """N-10: a link with & and < in it, a plan of an operator's."""
    assert "security=reality&amp;sni=x&lt;y" in screens.key(KEY, saying(language)).text
    assert "<b>odd" not in screens.periods(ODD, saying(language)).text


@pytest.mark.parametrize("language", LANGUAGES)
def test_where_telegram_reads_no_markup_nothing_is_escaped(language: str) -> None:
    offered = screens.plans(Plans(plans=(ODD,), ways=("stars",)), saying(language))
    assert offered.rows[0][0].text.startswith("<b>odd&plan</b> · ")


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("plan", ["basic", "plus", "a-plan-with-a-name-that-is-rather-long"])
def test_the_pay_sheet_keeps_telegrams_bounds(language: str, plan: str) -> None:
    texts = screens.invoice_texts(PLACED.model_copy(update={"plan": plan}), saying(language))
    assert 1 <= len(texts.title) <= 32
    assert 1 <= len(texts.description) <= 255


def test_what_the_present_access_becomes_is_shown_before_paying() -> None:
    """N-18: the plan that ends, what its paid time becomes, and until when; in words where nobody could say."""
    offered = screens.ways(PLAN, PLAN.prices[0], OUTLOOK, uuid4(), saying("en")).text
    assert "You have Basic now. As soon as you pay, it changes to Plus." in offered
    assert "becomes 10 days 17 hours of Plus" in offered
    assert "until 22 November 2026, 21:13 UTC" in offered
    assert "10 дней 17 часов" in screens.invoice(PLACED, OUTLOOK, "https://t.me/$x", saying("ru")).text
    assert "Another plan replaces it" in screens.invoice(PLACED, None, "https://t.me/$x", saying("en")).text
    little = OUTLOOK.model_copy(update={"converted_hours": 1})
    assert "becomes 1 hour of Plus" in screens.ways(PLAN, PLAN.prices[0], little, uuid4(), saying("en")).text


def test_support_names_whom_to_write_to_and_what_to_name() -> None:
    """R-30: an @username is a link; without a contact nobody is sent anywhere."""
    shown = screens.support("@turnpike_help", PAID, saying("en"))
    assert "Write to @turnpike_help." in shown.text
    assert "<code>stx&lt;1&gt;</code>" in shown.text
    assert shown.rows[0][0].url == "https://t.me/turnpike_help"
    assert screens.support("https://help.example.org/vpn", PAID, saying("en")).rows[0][0].url == (
        "https://help.example.org/vpn"
    )
    nobody = screens.support(None, PAID, saying("en"))
    assert "has not named a contact" in nobody.text
    assert [button.url for row in nobody.rows for button in row] == [None]


def test_days_left_are_rounded_up_and_never_below_zero() -> None:
    def days(ends_in: timedelta) -> str:
        return screens.access(Access(state="up", plan="plus", devices=1, ends_at=NOW + ends_in), NOW, saying("en")).text

    assert "1 day left" in days(timedelta(hours=1))
    assert "30 days left" in days(timedelta(days=29, hours=1))
    assert "0 days left" in days(timedelta(hours=-1))


def test_the_orders_id_survives_its_button() -> None:
    """M-04: 22 letters for 128 bits."""
    command = UUID("6f0c1d3a-52f5-4d0e-9a3b-0f7f6f5b9a41")
    data = Pay.drawn(command, plan="basic", months=12, way="stars").pack()
    assert Pay.unpack(data).command_id == command
    with pytest.raises(ValueError):
        _ = replace_command(data, "x" * 21).command_id


def replace_command(data: str, command: str) -> Pay:
    return Pay.unpack(":".join([*data.split(":")[:-1], command]))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_refusal_of_a_charge_has_words_of_its_own(language: str) -> None:
    """R-07: no two reasons are said alike."""
    reasons = get_args(get_args(Checkout.model_fields["reason"].annotation)[0])
    sentences = {TEXTS(language, "checkout-refused", reason=reason) for reason in [*reasons, "being_paid", "away"]}
    assert len(sentences) == len(reasons) + 2
    assert max(map(len, sentences)) <= 200


# The catalogue


class _Arguments(Visitor):
    def __init__(self) -> None:
        self.names: set[str] = set()

    def visit_VariableReference(self, node: VariableReference) -> None:  # noqa: N802 - the visitor's naming.
        self.names.add(node.id.name)


def catalogue(language: str) -> dict[str, set[str]]:
    """Every message with the names of its arguments."""
    source = resources.files("bot_gateway").joinpath("texts", f"{language}.ftl").read_text(encoding="utf-8")
    messages = {}
    for entry in FluentParser().parse(source).body:
        assert not isinstance(entry, Junk), entry.content
        if isinstance(entry, Message):
            arguments = _Arguments()
            arguments.visit(entry)
            messages[entry.id.name] = arguments.names
    return messages


def test_both_languages_have_the_same_messages_with_the_same_arguments() -> None:
    """N-07, N-11: nobody reads the other language, or a raw key."""
    assert catalogue("ru") == catalogue("en")


def used_keys() -> Iterator[str]:
    """The literals that are handed to the catalogue: `say("…")`, `visit.say("…")`, `texts(language, "…")`."""
    for path in Path(bot_gateway.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("say", "texts"):
                yield from (
                    argument.value
                    for argument in node.args[:2]
                    if isinstance(argument, ast.Constant) and isinstance(argument.value, str)
                )


def test_every_message_that_is_shown_exists_and_every_one_that_exists_is_shown() -> None:
    parts = {"plan", "devices", "period", "moment", "converted", "days", "hours"}
    assert set(used_keys()) | parts | {f"command-{name}" for name in COMMANDS} == set(catalogue("en"))


def test_money_and_dates_are_written_for_people() -> None:
    lines = {language: screens.balance(BALANCE, saying(language)).text.replace("\u00a0", " ") for language in LANGUAGES}
    assert "+149 ₽" in lines["en"]
    assert "−149 ₽" in lines["en"]
    assert "Balance: 64.90 ₽" in lines["en"]
    assert "Баланс: 64,90 ₽" in lines["ru"]
    assert "22 November 2026, 21:13 UTC" in screens.key(KEY, saying("en")).text
    assert "22 ноября 2026, 21:13 UTC" in screens.key(KEY, saying("ru")).text


def test_a_screen_is_a_value() -> None:
    shown = screens.menu(saying("en"))
    assert shown == screens.menu(saying("en"))
    assert replace(shown, text="x") != shown
