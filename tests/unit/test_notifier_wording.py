"""The words of messages in both languages."""

import re
from datetime import UTC, datetime
from importlib import resources
from typing import Any, get_args
from uuid import uuid4

import pytest
from fluent.syntax import FluentParser, ast
from fluent.syntax.visitor import Visitor

from bot_gateway.chats.buttons import Go, PayRest, leaves_its_message
from notifier.domain.messages import Kind
from notifier.domain.wording import TEXTS, Words, words
from shared.contracts.payments import PaymentConfirmed
from shared.contracts.vpn import Effect, Key
from shared.platform.texts import LANGUAGES, Texts

KEY = Key(
    link="vless://id@host:443?a=1&b=<2>#Turnpike", ends_at=datetime(2027, 1, 31, 21, 5, tzinfo=UTC)
)
ORDER = uuid4()
DETAILS: dict[Kind, dict[str, Any]] = {
    "paid_issuing": {"paid_minor": 99, "currency": "XTR"},
    "access_ready": {"plan": "basic", "devices": 5},
    "topped_up": {
        "paid_minor": 25000,
        "value_minor": 25000,
        "wallet_minor": 30050,
        "reason": "order_closed",
    },
    "missing": {
        "paid_minor": 66,
        "currency": "XTR",
        "wallet_minor": 10000,
        "missing_minor": 4900,
        "reason": "too_little",
        "lacking": ORDER.hex,
    },
    "left_over": {"plan": "basic", "devices": 5, "over_minor": 4900, "wallet_minor": 4900},
    "refunded": {
        "paid_minor": 99,
        "currency": "XTR",
        "value_minor": 14900,
        "undone": [{"plan": "basic", "months": 1, "whole": True}],
        "owed_minor": 500,
        "wallet_minor": 0,
    },
    "friend_registered": {},
    "reward_earned": {
        "reward_minor": 1490,
        "percent": 10,
        "paying": 2,
        "next_level_at": 25,
        "next_percent": 25,
    },
    "access_ended": {"ended_at": "2026-11-22T12:00:00+00:00"},
    "access_expiring": {"ends_at": "2026-11-22T12:00:00+00:00", "hours": 72},
}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_kind_has_words_in_every_language(kind: Kind, language: str) -> None:
    """N-11, N-07."""
    text = words(kind, DETAILS[kind], language, KEY).text
    assert "{" not in text
    assert bool(re.search("[а-я]", text)) == (language == "ru")


def test_the_key_message_is_complete_and_escaped() -> None:
    """N-10, R-45: text from outside is escaped; the time is in the zone of the language."""
    message = words("access_ready", {"plan": "<b>mine", "devices": 1}, "en", KEY)
    assert "31 January 2027, 21:05 UTC" in message.text
    russian = words("access_ready", {"plan": "plus", "devices": 1}, "ru", KEY)
    assert "1 февраля 2027, 00:05 МСК" in russian.text
    assert "<code>vless://id@host:443?a=1&amp;b=&lt;2&gt;#Turnpike</code>" in message.text
    assert "&lt;b&gt;mine, 1 device," in message.text
    assert data_of(message) == ["go:qr", "go:access"]


def data_of(message: Words) -> list[str]:
    return [button.callback_data for row in message.rows for button in row]


@pytest.mark.parametrize(
    ("language", "last"), [("en", "4. Switch it on."), ("ru", "4. Включите VPN.")]
)
def test_a_first_key_comes_with_its_use(language: str, last: str) -> None:
    """R-52: at most five lines, the key among them, and an app for every platform."""
    text = words("access_ready", DETAILS["access_ready"], language, KEY).text
    use = text.rpartition("\n\n")[2].splitlines()
    assert len(use) <= 5
    assert use[1] == "<code>vless://id@host:443?a=1&amp;b=&lt;2&gt;#Turnpike</code>"
    assert use[-1] == last
    assert all(app in text for app in ("Happ", "Hiddify"))


GRANTED = {
    "plan": "plus",
    "devices": 10,
    "plan_before": "basic",
    "converted_hours": 0,
    "new_link": False,
    "ends_at": "2027-01-31T21:05:00+00:00",
}


def test_a_renewal_says_that_it_extends() -> None:
    """R-51: the key stays the same, so nothing has to be installed."""
    renewal = GRANTED | {"effect": "extends"}
    text = words("access_ready", renewal, "en").text
    assert "Extended until 31 January 2027, 21:05 UTC" in text
    assert "<code>" not in text
    assert "продлён до 1 февраля 2027, 00:05 МСК" in words("access_ready", renewal, "ru").text


@pytest.mark.parametrize(
    ("hours", "en", "ru"),
    [
        (0, "too little time left on Basic", "слишком мало"),
        (1, "left on Basic became 1 hour of Plus", "по новому тарифу это 1 час."),
        (50, "became 2 days 2 hours of Plus", "2 дня 2 часа"),
    ],
)
def test_another_plan_names_the_converted_time(hours: int, en: str, ru: str) -> None:
    """R-51."""
    changed = GRANTED | {"effect": "converts", "converted_hours": hours}
    text = words("access_ready", changed, "en").text
    assert "Your plan is now Plus" in text
    assert en in text
    assert ru in words("access_ready", changed, "ru").text


def test_a_rest_stands_in_every_form() -> None:
    """R-50, R-51."""
    rest = {"over_minor": 4900, "wallet_minor": 4900}
    for effect in get_args(Effect):
        text = words("access_ready", GRANTED | {"effect": effect} | rest, "en", KEY).text
        assert "49\u00a0₽ is left over" in text


@pytest.mark.parametrize(
    ("devices", "ru"), [(1, "1 устройство"), (2, "2 устройства"), (5, "5 устройств")]
)
def test_russian_plurals_follow_the_number(devices: int, ru: str) -> None:
    assert ru in words("access_ready", {"plan": "plus", "devices": devices}, "ru", KEY).text


def test_a_reward_names_the_next_level() -> None:
    """N-12: the amounts are those of the event. The highest level has no next one."""
    russian = words("reward_earned", DETAILS["reward_earned"], "ru").text
    assert "Ещё 23 платящих друга, и вы будете получать 25\u00a0%" in russian
    top = DETAILS["reward_earned"] | {
        "next_level_at": None,
        "next_percent": None,
        "paying": 51,
        "percent": 45,
    }
    text = words("reward_earned", top, "en").text
    assert "14.90\u00a0₽ earned" in text
    assert "already the highest" in text


REASONS = get_args(get_args(PaymentConfirmed.model_fields["reason"].annotation)[0])
CALQUES = re.compile(
    "cannot pay for another|другой заказ пока нельзя|"
    "bought nothing|ничего не купил|выдаётся|Этому заказу больше"
)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", ["topped_up", "missing"])
def test_money_without_a_purchase_says_where_it_is(kind: Kind, language: str) -> None:
    """R-54: in words that a person says: why no order was paid, and what the wallet holds."""
    wallet = re.compile(
        "wallet now holds 100|wallet, which now holds 300|(в нём|сейчас) [13]00|"
        "(Wallet|В кошельке): 300"
    )
    for reason in (*REASONS, None):
        text = words(kind, DETAILS[kind] | {"reason": reason}, language).text
        assert wallet.search(text), text
        assert not CALQUES.search(text), text


FROM_BALANCE = {"balance_minor": 14900, "wallet_minor": 5100}


@pytest.mark.parametrize(
    ("language", "issuing", "granted"),
    [
        ("en", "Paid from the balance: 149 ₽", "You paid 149 ₽ from your balance."),
        ("ru", "Оплачено с баланса: 149 ₽", "С баланса списано 149 ₽."),
    ],
)
def test_a_purchase_from_the_balance_names_its_price(
    language: str, issuing: str, granted: str
) -> None:
    """R-83: and what is left, in the one message of the order, in each of its forms."""
    text = words("paid_issuing", FROM_BALANCE, language).text.replace("\u00a0", " ")
    assert issuing in text
    assert "51 ₽" in text
    for kind in ("access_ready", "left_over"):
        for effect in get_args(Effect):
            details = GRANTED | {"effect": effect} | FROM_BALANCE
            text = words(kind, details, language, KEY).text.replace("\u00a0", " ")
            assert granted in text
            assert "51 ₽" in text


@pytest.mark.parametrize(
    ("language", "sentence"), [("en", "Your debt is paid"), ("ru", "Долг погашен")]
)
def test_a_restored_purchase_names_the_debt(language: str, sentence: str) -> None:
    """R-146: nobody asked for this purchase just now, so each form says where it comes from."""
    for kind in ("paid_issuing", "access_ready", "left_over"):
        text = words(kind, GRANTED | FROM_BALANCE | {"restored": True}, language, KEY).text
        assert sentence in text
        assert "149\u00a0₽" in text


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_topup_leads_to_buying(language: str) -> None:
    """R-83: the first button; nobody is sent to support for a payment that went well."""
    topped_up = words("topped_up", DETAILS["topped_up"] | {"reason": "topped_up"}, language)
    assert data_of(topped_up) == ["below:buy", "below:balance"]


class _Names(Visitor):
    def __init__(self) -> None:
        self.variables: set[str] = set()

    def visit_VariableReference(  # noqa: N802 - fluent.syntax calls it by this name.
        self, node: ast.VariableReference
    ) -> None:
        self.variables.add(node.id.name)


def catalogue(language: str) -> dict[str, set[str]]:
    """Every message with the arguments that it names itself."""
    source = (
        resources.files("notifier").joinpath("texts", f"{language}.ftl").read_text(encoding="utf-8")
    )
    found: dict[str, set[str]] = {}
    for entry in FluentParser().parse(source).body:
        assert isinstance(entry, ast.Message), entry
        names = _Names()
        names.visit(entry)
        found[entry.id.name] = names.variables
    return found


def test_both_catalogues_have_equal_messages_and_arguments() -> None:
    """N-11."""
    assert catalogue("ru") == catalogue("en")


@pytest.mark.parametrize("kind", get_args(Kind))
def test_no_message_is_a_dead_end(kind: Kind) -> None:
    """R-53: its buttons open screens of bot-gateway, and leave the message as it is.

    Neither service imports the other; these strings are all that they share.
    """
    effects: list[dict[str, Any]] = [GRANTED | {"effect": effect} for effect in get_args(Effect)]
    for details in effects if kind in ("access_ready", "left_over") else [DETAILS[kind]]:
        data = data_of(words(kind, details, "en", KEY))
        assert data
        for each in data:
            assert (PayRest if each.startswith("rest:") else Go).unpack(each)
            assert leaves_its_message(each)


@pytest.mark.parametrize("kind", get_args(Kind))
def test_a_long_button_has_its_own_row(kind: Kind) -> None:
    """R-53: two Russian ones side by side would break into lines on a phone of 320 px."""
    for row in words(kind, DETAILS[kind], "ru", KEY).rows:
        assert sum(len(button.text) for button in row) <= 21


def test_the_next_step_is_the_first_button() -> None:
    """R-53."""
    first = {kind: data_of(words(kind, DETAILS[kind], "en", KEY))[0] for kind in get_args(Kind)}
    assert first == {
        "paid_issuing": "go:access",
        "access_ready": "go:qr",
        "left_over": "go:qr",
        "topped_up": "below:buy",
        "missing": PayRest(order=ORDER).pack(),
        "refunded": "go:access",
        "friend_registered": "below:friends",
        "reward_earned": "below:friends",
        "access_ended": "below:buy",
        "access_expiring": "below:buy",
    }


def test_money_is_named_as_it_was_paid() -> None:
    """R-46: a payer of Stars reads Stars; what is missing is counted in the wallet's money."""
    issuing = words("paid_issuing", DETAILS["paid_issuing"], "en").text.replace("\u00a0", " ")
    assert "Paid: 99 ⭐" in issuing
    missing = words("missing", DETAILS["missing"], "en").text.replace("\u00a0", " ")
    assert "66 ⭐ received</b>, 49 ₽ still missing" in missing


@pytest.mark.parametrize("language", LANGUAGES)
def test_both_services_show_one_zone(language: str) -> None:
    """R-45."""
    for entry in ("zone", "zone-hours"):
        assert TEXTS(language, entry) == Texts("bot_gateway")(language, entry)


@pytest.mark.parametrize(
    ("changes", "en", "ru"),
    [
        ({}, ["99\u00a0⭐ returned", "cancelled: Basic for 1 month"], ["Возвращено 99\u00a0⭐"]),
        ({"owed_minor": 500}, ["5\u00a0₽ of this money"], ["5\u00a0₽ из этих денег"]),
        ({"wallet_minor": 700}, ["wallet now holds 7\u00a0₽"], ["В кошельке теперь 7\u00a0₽"]),
        (
            {"undone": [{"plan": "plus", "months": 3, "whole": False}]},
            ["shorter now", "Plus for 3 months"],
            ["стал короче", "«Плюс» на 3 месяца"],
        ),
        (
            {"owed_minor": 500, "restored_for_minor": 15400},
            ["top up at least 154\u00a0₽ in one payment"],
            ["одним платежом: не меньше чем на 154\u00a0₽"],
        ),
    ],
)
def test_a_refund_names_its_effects(changes: dict[str, Any], en: list[str], ru: list[str]) -> None:
    """R-68: the amount, what ended or became shorter, and what is owed."""
    details = DETAILS["refunded"] | {"owed_minor": 0} | changes
    for language, sentences in (("en", en), ("ru", ru)):
        text = words("refunded", details, language).text
        assert all(sentence in text for sentence in sentences), text


def test_equal_undone_orders_are_named_once() -> None:
    """R-68: a refund may undo twenty of them."""
    share = {"plan": "basic", "months": 1, "whole": True}
    text = words("refunded", DETAILS["refunded"] | {"undone": [share] * 20}, "en").text
    assert text.count("cancelled") == 1
