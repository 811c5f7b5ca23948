"""The screens of saved methods: titles of outside, consent, and a sentence for every refusal."""

from typing import get_args

import pytest

from bot_gateway.chats import balance_screens, pay_screens
from bot_gateway.chats.buttons import PayOrder, Remember
from bot_gateway.chats.buy_screens import title_of
from shared.contracts.payments import InvoiceRefusedReason, SavedMethod, Way
from shared.platform.texts import LANGUAGES
from tests.kit.bot_screens import (
    BALANCE,
    CARD_BY_RUBLES,
    LINK,
    OPENED,
    PART,
    REST,
    SAVED,
    TO_PAY,
    saying,
)


def test_saved_methods_come_first() -> None:
    """R-134: with the amount of their way, and a name where the provider shows none."""
    order = REST.model_copy(update={"saved": SAVED})
    rows = pay_screens.rest(order, saying("en"), from_balance=True).rows
    texts = [row[0].text.replace("\u00a0", " ") for row in rows[:3]]
    assert texts[:2] == ["⚡ <b>Bank card · 64 ₽", "⚡ SBP account · 49 ₽"]
    assert texts[2].startswith("Telegram Stars")
    assert PayOrder.unpack(rows[0][0].data or "").way == SAVED[0].name
    closed = order.model_copy(update={"ways": ()})
    assert "⚡" not in str(pay_screens.rest(closed, saying("en"), from_balance=True).rows)


@pytest.mark.parametrize(
    ("language", "way", "title", "shown"),
    [
        ("en", "card", "Bank card *4444", "Card *4444"),
        ("ru", "card", "Bank card *4444", "Карта *4444"),
        ("en", "card", "", "Saved card"),
        ("ru", "card", "", "Сохранённая карта"),
        ("en", "sbp", "СБП", "SBP account"),
        ("ru", "sbp", "СБП", "Счёт СБП"),
        ("ru", "sbp", "СБП, T-Bank *4444", "СБП, T-Bank *4444"),
    ],
)
def test_saved_methods_speak_the_language(language: str, way: Way, title: str, shown: str) -> None:
    """R-153: a provider writes "Bank card" for everybody, and SBP in Russian."""
    method = SavedMethod(name="s0a1b2c", way=way, title=title)
    assert title_of(method, saying(language)) == shown


@pytest.mark.parametrize("language", LANGUAGES)
def test_a_title_of_outside_is_escaped(language: str) -> None:
    """N-10: a button shows it as it is, and a text as plain text."""
    asked = balance_screens.forgetting(SAVED[0], saying(language))
    assert "&lt;b&gt;Bank card" in asked.text
    held = BALANCE.model_copy(update={"saved": SAVED})
    shown = balance_screens.balance(held, saying(language))
    assert any("<b>Bank card" in row[0].text for row in shown.rows)


def test_consent_is_off_at_first() -> None:
    """R-131: the button turns it on, and says so; another one turns it off."""
    for remembers, mark in ((False, "☐"), (True, "☑")):
        opened = CARD_BY_RUBLES.model_copy(update={"remembers": remembers, "from_balance": True})
        shown = pay_screens.invoice(opened, None, LINK, TO_PAY, saying("en"))
        [button] = shown.rows[1]
        assert button.text == f"{mark} Remember this card"
        wish = Remember.unpack(button.data or "")
        assert (wish.on, wish.from_balance, wish.way) == (not remembers, True, "card")
        assert ("we will remember your card" in shown.text) == remembers
    shown = pay_screens.invoice(OPENED, None, LINK, TO_PAY, saying("en"))
    assert "Remember" not in str(shown.rows)


def test_looking_again_keeps_the_consent() -> None:
    """R-131: while the provider has not answered."""
    agreed = CARD_BY_RUBLES.model_copy(update={"remembers": True})
    again = pay_screens.asking(agreed, saying("en"), from_balance=True).rows[0][0].data
    assert Remember.unpack(again or "").on
    plain = pay_screens.asking(PART, saying("en")).rows[0][0].data
    assert PayOrder.unpack(plain or "").order == PART.order


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_refused_charge_has_a_sentence(language: str) -> None:
    """R-136: those of a saved method have one of their own."""
    said = {
        reason: pay_screens.other_ways(REST, saying(language), refused=reason).text
        for reason in get_args(InvoiceRefusedReason)
    }
    own = [said[reason] for reason in ("method_gone", "no_funds", "declined", "refused")]
    assert len(set(own)) == 4
    assert set(said.values()) == set(own)
