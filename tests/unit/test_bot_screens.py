"""Every screen in every language: complete texts, and buttons that Telegram accepts."""

from dataclasses import replace
from datetime import timedelta

import pytest

from bot_gateway.chats import balance_screens, buy_screens, pay_screens, screens
from shared.contracts.payments import Plans
from shared.contracts.vpn import Access
from shared.platform.texts import LANGUAGES
from tests.kit.bot_payments import STARS
from tests.kit.bot_screens import (
    ALL_WAYS,
    APP_SITES,
    BALANCE,
    KEY,
    NOW,
    ODD,
    OPENED,
    PAID,
    REST,
    SCREENS,
    saying,
)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", SCREENS)
def test_telegram_accepts_every_screen(name: str, language: str) -> None:
    """N-11: all arguments are there; 4096 characters, 64 bytes in a button, one action each."""
    shown = SCREENS[name](saying(language))
    assert 0 < len(shown.text) <= 4096
    for button in (button for row in shown.rows for button in row):
        assert button.text.strip()
        assert (button.data is None) != (button.url is None)
        assert button.data is None or 1 <= len(button.data.encode()) <= 64
        assert button.url is None or button.url.startswith(("https://t.me/", *APP_SITES))


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("name", sorted(SCREENS.keys() - {"hello"}))
def test_every_screen_leads_on(name: str, language: str) -> None:
    """R-48: a button; only an unknown person gets none, and is told the command."""
    assert any(button.data for row in SCREENS[name](saying(language)).rows for button in row)
    assert "/start" in screens.hello(saying(language)).text


@pytest.mark.parametrize("language", LANGUAGES)
def test_arguments_are_escaped(language: str) -> None:
    """N-10: a link with & and <, and a plan name that an operator chose."""
    assert "security=reality&amp;sni=x&lt;y" in screens.key(KEY, saying(language)).text
    assert "<b>odd" not in buy_screens.periods(ODD, ALL_WAYS, saying(language)).text
    odd = OPENED.model_copy(update={"plan": ODD.plan})
    assert "<b>odd" not in pay_screens.asking(odd, saying(language)).text
    lacking = REST.model_copy(update={"plan": ODD.plan})
    assert "<b>odd" not in pay_screens.rest(lacking, saying(language), from_balance=True).text


@pytest.mark.parametrize("language", LANGUAGES)
def test_buttons_are_not_escaped(language: str) -> None:
    offered = buy_screens.plans(Plans(plans=(ODD,), ways=(STARS,)), saying(language))
    assert offered.rows[0][0].text.startswith("<b>odd&plan</b> · ")


def test_support_shows_the_contact_and_charges() -> None:
    """R-30: an @username becomes a link; without a contact there is no link."""
    shown = screens.support("@turnpike_help", PAID, saying("en"))
    assert "Write to @turnpike_help." in shown.text
    assert "<code>stx&lt;1&gt;</code>" in shown.text
    assert shown.rows[0][0].url == "https://t.me/turnpike_help"
    assert screens.support("https://help.example.org/vpn", PAID, saying("en")).rows[0][0].url == (
        "https://help.example.org/vpn"
    )
    nobody = screens.support(None, PAID, saying("en"))
    assert "has not given a contact" in nobody.text
    assert [button.url for row in nobody.rows for button in row] == [None]


def test_days_left_round_up_and_stop_at_zero() -> None:
    def days(ends_in: timedelta) -> str:
        return screens.access(
            Access(state="up", plan="plus", devices=1, ends_at=NOW + ends_in), NOW, saying("en")
        ).text

    assert "1 day left" in days(timedelta(hours=1))
    assert "30 days left" in days(timedelta(days=29, hours=1))
    assert "0 days left" in days(timedelta(hours=-1))


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_reason_of_a_movement_has_words(language: str) -> None:
    """R-84: no two reasons share their words."""
    lines = balance_screens.lines(BALANCE.lines, saying(language))
    words = [line.rpartition("  ")[2] for line in lines]
    assert len(set(words)) == len(lines)


def test_money_and_dates_follow_the_language() -> None:
    """R-45: Moscow time for the readers of Russian, on the day that it is there."""
    lines = {
        language: balance_screens.balance(BALANCE, saying(language)).text.replace("\u00a0", " ")
        for language in LANGUAGES
    }
    assert "+149 ₽" in lines["en"]
    assert "−149 ₽" in lines["en"]
    assert "Balance: 64.90 ₽" in lines["en"]
    assert "Баланс: 64,90 ₽" in lines["ru"]
    assert "22 November 2026, 21:13 UTC" in screens.key(KEY, saying("en")).text
    assert "23 ноября 2026, 00:13 МСК" in screens.key(KEY, saying("ru")).text


def test_a_screen_is_a_value() -> None:
    shown = screens.menu(saying("en"))
    assert shown == screens.menu(saying("en"))
    assert replace(shown, text="x") != shown
