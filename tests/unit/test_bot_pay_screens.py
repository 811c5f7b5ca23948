"""The screens of buying and paying: prices, times, buttons, and a sentence for every refusal."""

from dataclasses import replace
from datetime import timedelta
from typing import Any, get_args
from uuid import UUID, uuid4

import pytest

from bot_gateway.chats import buy_screens, pay_screens
from bot_gateway.chats.buttons import Pay, PayOrder, PayTopUp, packed, priced
from bot_gateway.chats.pay import OTHER_WAY
from shared.contracts.message import derived_id
from shared.contracts.payments import Checkout, Plans, Way
from shared.platform.texts import LANGUAGES
from tests.kit.bot_payments import STARS
from tests.kit.bot_screens import (
    ALL_WAYS,
    LINK,
    OFFER,
    OPENED,
    OUTLOOK,
    PLAN,
    REST,
    TEXTS,
    TO_PAY,
    TOPUP,
    saying,
)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("plan", ["basic", "plus", "a-plan-with-a-name-that-is-rather-long"])
def test_pay_sheet_texts_keep_telegrams_limits(language: str, plan: str) -> None:
    for opened in (OPENED.model_copy(update={"plan": plan}), TOPUP):
        texts = pay_screens.invoice_texts(opened, saying(language))
        assert 1 <= len(texts.title) <= 32
        assert 1 <= len(texts.description) <= 255


def test_the_offer_shows_the_effect_on_present_access() -> None:
    """N-18: the plan that ends, the converted time, and the new end; else the rule in words."""
    offered = buy_screens.ways(OFFER, uuid4(), saying("en")).text
    assert "You have Basic now. As soon as you pay, it changes to Plus." in offered
    assert "becomes 10 days 17 hours of Plus" in offered
    assert "until 22 November 2026, 21:13 UTC" in offered
    russian, ruled = (
        pay_screens.invoice(OPENED, outlook, LINK, TO_PAY, saying(language)).text
        for language, outlook in (("ru", OUTLOOK), ("en", None))
    )
    assert "10 дней 17 часов" in russian
    assert "Another plan replaces it" in ruled
    little = replace(OFFER, outlook=OUTLOOK.model_copy(update={"converted_hours": 1}))
    assert "becomes 1 hour of Plus" in buy_screens.ways(little, uuid4(), saying("en")).text


def test_the_order_id_survives_its_button() -> None:
    """M-04, S-08: 22 characters for 128 bits, from which each person gets another id."""
    ann, eve = uuid4(), uuid4()
    command = UUID("6f0c1d3a-52f5-4d0e-9a3b-0f7f6f5b9a41")
    data = Pay(plan="basic", months=12, way="stars", command=packed(command)).pack()
    assert Pay.unpack(data).command_id(ann) == derived_id("order", ann, command)
    assert Pay.unpack(data).command_id(eve) != Pay.unpack(data).command_id(ann)
    with pytest.raises(ValueError):
        replace_command(data, "x" * 21).command_id(ann)


@pytest.mark.parametrize("price_minor", [1, 14_900, 10**10])
def test_a_button_keeps_the_price_of_its_screen(price_minor: int) -> None:
    """R-149: and is an id of its own all the same."""
    ids = {priced(uuid4(), price_minor) for _ in range(2)}
    assert len(ids) == 2
    for drawn in ids:
        data = Pay(plan="basic", months=1, way="s0a1b2c", command=packed(drawn)).pack()
        assert Pay.unpack(data).price_minor == price_minor


@pytest.mark.parametrize("way", [*get_args(Way), "balance", "missing", "s0a1b2c"])
def test_the_longest_button_of_a_way_fits(way: Any) -> None:
    """R-81: with the longest code of a plan, and 64 bytes that Telegram allows."""
    command, order = packed(uuid4()), uuid4()
    data = Pay(plan="x" * 24, months=120, way=way, command=command).pack()
    assert len(data) <= 64
    assert Pay.unpack(data).way == way
    if way not in ("balance", "missing"):
        assert len(PayTopUp(rubles=100_000, way=way, command=command).pack()) <= 64
        for most_minor in (None, 10**10):
            wanted = PayOrder(order=order, way=way, from_balance=True, most_minor=most_minor)
            assert PayOrder.unpack(wanted.pack()) == wanted


def replace_command(data: str, command: str) -> Pay:
    return Pay.unpack(":".join([*data.split(":")[:-1], command]))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_refusal_of_a_charge_has_its_sentence(language: str) -> None:
    """R-07: no two reasons share a sentence."""
    reasons = get_args(get_args(Checkout.model_fields["reason"].annotation)[0])
    sentences = {
        TEXTS(language, "checkout-refused", reason=reason)
        for reason in [*reasons, "invoice_paid", "being_paid", "away"]
    }
    assert len(sentences) == len(reasons) + 3
    assert max(map(len, sentences)) <= 200


@pytest.mark.parametrize(
    ("left", "english", "russian"),
    [
        (TO_PAY, "within 29 minutes.", "в течение 29 минут."),
        (timedelta(seconds=61), "within 1 minute.", "в течение 1 минуты."),
    ],
)
def test_the_time_to_pay_is_in_minutes(left: timedelta, english: str, russian: str) -> None:
    """R-45: a clock time would be read in the reader's own zone."""
    for language, ending in (("en", english), ("ru", russian)):
        shown = pay_screens.invoice(OPENED, None, LINK, left, saying(language))
        assert shown.text.endswith(ending)


@pytest.mark.parametrize("language", LANGUAGES)
def test_prices_are_in_the_charged_currency(language: str) -> None:
    """R-46: from the list of plans to the pay button, everything is in Stars."""
    say = saying(language)
    for shown, stars in (
        (buy_screens.plans(Plans(plans=(PLAN,), ways=(STARS,)), say), 1),
        (buy_screens.periods(PLAN, (STARS,), say), 1),
        (buy_screens.ways(OFFER, uuid4(), say), 2),
        (pay_screens.invoice(OPENED, OUTLOOK, LINK, TO_PAY, say), 2),
    ):
        words = shown.text + "".join(button.text for row in shown.rows for button in row)
        assert words.count("⭐") == stars
        assert "₽" not in words


@pytest.mark.parametrize("language", LANGUAGES)
def test_prices_are_in_rubles_for_a_choice(language: str) -> None:
    """R-46, R-81: each button has the currency that it charges."""
    say = saying(language)
    for shown in (
        buy_screens.plans(Plans(plans=(PLAN,), ways=ALL_WAYS), say),
        buy_screens.periods(PLAN, ALL_WAYS, say),
    ):
        assert "2\u202f299\u00a0₽" in shown.rows[0][0].text
    chosen = buy_screens.ways(replace(OFFER, ways=ALL_WAYS), uuid4(), say)
    stars, *others = [row[0].text for row in chosen.rows[:4]]
    assert stars.endswith("· 1\u202f529\u00a0⭐")
    assert all(text.endswith("· 2\u202f299\u00a0₽") for text in others)


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_least_amount_is_said_before_paying(language: str) -> None:
    """R-81: cards take 64 ₽ at least; of the ways that take the amount nothing is said."""
    shown = pay_screens.rest(REST, saying(language), from_balance=False)
    assert shown.text.count("64\u00a0₽") == 2
    assert "64\u00a0₽" in shown.rows[2][0].text
    assert "49\u00a0₽" in shown.rows[1][0].text


@pytest.mark.parametrize("language", LANGUAGES)
def test_refusals_with_a_way_on_have_toasts(language: str) -> None:
    """R-85: at most the 200 characters of a toast, each with words of its own."""
    toasts = {TEXTS(language, key) for key in OTHER_WAY.values()}
    assert len(toasts) == len(OTHER_WAY)
    assert max(map(len, toasts)) <= 200
