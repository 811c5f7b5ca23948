"""Which messages facts give, what answers make of them, how fast they go, and what words they have."""

import re
from datetime import UTC, datetime, timedelta
from importlib import resources
from typing import Any, get_args
from uuid import UUID, uuid4

import pytest
from fluent.syntax import FluentParser, ast
from fluent.syntax.visitor import Visitor
from hypothesis import given
from hypothesis import strategies as st
from pydantic import SecretStr, ValidationError

from bot_gateway.buttons import Go
from notifier import messages
from notifier.deliveries import (
    LONGEST_PAUSE_S,
    MOST_TRIES,
    Answer,
    Away,
    Blocked,
    NotYet,
    Outdated,
    Rejected,
    Said,
    SlowDown,
    Unclear,
    verdict,
)
from notifier.messages import Kind
from notifier.pace import Bucket
from notifier.settings import Settings
from notifier.telegram import answer_of, parameters
from notifier.wording import MY_ACCESS, Button, Words, words
from shared.facts import Bought, PaymentConfirmed, Received, RewardEarned, Terms
from shared.questions import Key
from shared.settings import mistakes
from shared.texts import LANGUAGES

NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)


def confirmed(*, bought: bool, received: bool = True, missing_minor: int = 0) -> PaymentConfirmed:
    terms = Terms(plan="basic", months=1, devices=5, traffic_bytes=None, node_group="default", list_month_minor=14900)
    return PaymentConfirmed.because(
        "telegram:charge",
        about=uuid4(),
        at=NOW,
        received=Received(receipt=uuid4(), acquirer="telegram", charge="charge", value_minor=14900)
        if received
        else None,
        bought=Bought(order=uuid4(), what="subscription", terms=terms, price_minor=14900) if bought else None,
        booked_at=NOW,
        wallet_minor=0 if bought else 14900,
        missing_minor=missing_minor,
    )


# Messages


def test_what_was_bought_is_told_by_its_order_whatever_the_charge() -> None:
    fact = confirmed(bought=True)
    [told] = messages.of_payment(fact)
    assert fact.bought is not None
    assert (told.kind, told.cause, told.story) == ("paid_issuing", str(fact.bought.order), fact.bought.order)


@pytest.mark.parametrize(("missing_minor", "kind"), [(0, "topped_up"), (500, "missing")])
def test_money_that_bought_nothing_is_told_by_its_receipt(missing_minor: int, kind: Kind) -> None:
    """N-08: nobody is told of success before it is there."""
    fact = confirmed(bought=False, missing_minor=missing_minor)
    [told] = messages.of_payment(fact)
    assert fact.received is not None
    assert (told.kind, told.cause, told.story) == (kind, str(fact.received.receipt), None)


def test_a_confirmation_without_either_half_tells_nobody() -> None:
    assert messages.of_payment(confirmed(bought=False, received=False)) == []


def test_what_came_beyond_the_price_is_told_beside_the_purchase() -> None:
    """N-17: the wallet grew, and the person reads why."""
    fact = confirmed(bought=True).model_copy(update={"over_minor": 5000, "wallet_minor": 7000})
    issuing, left = messages.of_payment(fact)
    assert (issuing.kind, left.kind) == ("paid_issuing", "left_over")
    assert fact.received is not None
    assert left.cause == str(fact.received.receipt)
    assert "50\u00a0₽ more than the price" in words("left_over", left.details, "en").text


def test_money_that_bought_nothing_says_why() -> None:
    """N-17: every reason that a payment may have has words of its own."""
    reasons = get_args(get_args(PaymentConfirmed.model_fields["reason"].annotation)[0])
    texts = set()
    for why in (*reasons, None):
        fact = confirmed(bought=False).model_copy(update={"reason": why})
        [told] = messages.of_payment(fact)
        texts.add(words("missing" if why in ("too_little", "part_spent") else told.kind, told.details, "en").text)
    assert len(texts) == len(reasons) + 1


def test_the_same_cause_tells_two_people_two_things() -> None:
    buyer, partner = uuid4(), uuid4()

    def about(person: UUID, kind: Kind) -> messages.Message:
        return messages.Message(person, "receipt", kind, NOW)

    assert about(buyer, "topped_up").id != about(partner, "reward_earned").id


def test_a_reward_of_nothing_is_not_told() -> None:
    fact = RewardEarned.because(
        "receipt",
        about=uuid4(),
        at=NOW,
        receipt=uuid4(),
        invitee=uuid4(),
        percent=10,
        value_minor=5,
        reward_minor=0,
        paying=1,
        next_level_at=25,
        next_percent=25,
    )
    assert messages.of_reward(fact) is None


def test_details_hold_no_name_and_no_key() -> None:
    """S-14."""
    [told] = messages.of_payment(confirmed(bought=True))
    assert all(isinstance(value, int) for value in told.details.values())


# Verdicts


def test_what_telegram_has_is_sent() -> None:
    assert verdict(Said(7), tries=3, waits=2).message_id == 7


def test_patience_that_telegram_asks_for_is_no_failed_try() -> None:
    """W-20: `retry_after` is honoured, by everybody who speaks with this token."""
    came = verdict(SlowDown(35), tries=4, waits=0)
    assert (came.state, came.pause_s, came.hush_s, came.tries) == ("waiting", 35, 35, 4)


def test_who_blocked_the_bot_is_not_tried_again() -> None:
    """W-20: blocked people are not retried."""
    came = verdict(Blocked("bot was blocked by the user"), tries=0, waits=0)
    assert (came.state, came.reachable) == ("unreachable", False)


def test_a_key_that_is_not_there_is_waited_for_however_long() -> None:
    came = verdict(NotYet("issuing"), tries=0, waits=10_000)
    assert (came.state, came.tries, came.spoke) == ("waiting", 0, False)
    assert came.pause_s <= 30


@pytest.mark.parametrize(("answer", "at_last"), [(Away("502"), "failed"), (Unclear("TimeoutError"), "unknown")])
def test_telegrams_absence_is_borne_for_a_day_and_then_named(answer: Answer, at_last: str) -> None:
    """N-01: after a cut nobody can know whether the message arrived, and it says so."""
    waited_s, tries = 0.0, 0
    while (came := verdict(answer, tries=tries, waits=0)).state == "waiting":
        waited_s, tries = waited_s + came.pause_s, came.tries
        assert came.pause_s <= LONGEST_PAUSE_S
    assert (came.state, came.tries) == (at_last, MOST_TRIES)
    assert 20 * 3600 < waited_s < 30 * 3600


@given(
    st.sampled_from(
        [Said(1), Blocked("b"), SlowDown(1), Rejected("r"), Away("a"), Unclear("u"), NotYet("n"), Outdated("o")]
    ),
    st.integers(0, 10**6),
    st.integers(0, 10**6),
)
def test_every_answer_settles_a_delivery_or_gives_it_a_next_step(answer: Answer, tries: int, waits: int) -> None:
    came = verdict(answer, tries=tries, waits=waits)
    assert (came.pause_s > 0) == (came.state == "waiting")
    assert (came.message_id is not None) == (came.state == "sent")


# What Telegram's answers mean


@pytest.mark.parametrize(
    ("status", "body", "answer"),
    [
        (200, {"ok": True, "result": {"message_id": 7, "date": 1, "chat": {"id": 1, "type": "private"}}}, Said(7)),
        (
            429,
            {
                "ok": False,
                "error_code": 429,
                "description": "Too Many Requests: retry after 5",
                "parameters": {"retry_after": 5},
            },
            SlowDown(5.0),
        ),
        (
            403,
            {"ok": False, "error_code": 403, "description": "Forbidden: bot was blocked by the user"},
            Blocked("Forbidden: bot was blocked by the user"),
        ),
        (
            400,
            {"ok": False, "error_code": 400, "description": "Bad Request: chat not found"},
            Rejected("Bad Request: chat not found"),
        ),
        (401, {"ok": False, "error_code": 401, "description": "Unauthorized"}, Away("Unauthorized")),
        (404, {"ok": False, "error_code": 404, "description": "Not Found"}, Away("Not Found")),
        (502, {"ok": False, "error_code": 502, "description": "Bad Gateway"}, Away("Bad Gateway")),
        (200, {"ok": True, "result": True}, Unclear("HTTP 200 without an answer of the Bot API")),
        (200, [], Unclear("HTTP 200 without an answer of the Bot API")),
    ],
)
def test_each_answer_of_telegram_has_one_meaning(status: int, body: object, answer: Answer) -> None:
    assert answer_of(status, body) == answer


def test_a_description_without_end_is_kept_in_part() -> None:
    answer = answer_of(400, {"ok": False, "error_code": 400, "description": "x" * 10_000})
    assert isinstance(answer, Rejected)
    assert len(answer.reason) == 200


def test_a_message_is_sent_as_html_with_its_button() -> None:
    assert parameters(5, Words("<b>a</b>", Button("b", "go:access"))) == {
        "chat_id": 5,
        "text": "<b>a</b>",
        "parse_mode": "HTML",
        "reply_markup": {"inline_keyboard": [[{"text": "b", "callback_data": "go:access"}]]},
    }


# Pace


@given(st.lists(st.tuples(st.floats(0, 5), st.integers(0, 100)), max_size=60), st.sampled_from([0.5, 20.0, 1000.0]))
def test_no_more_messages_leave_than_the_bucket_allows(asked: list[tuple[float, int]], per_s: float) -> None:
    bucket, at, sent = Bucket(0.0, NOW, NOW), NOW, 0
    for pause_s, wanted in asked:
        at += timedelta(seconds=pause_s)
        bucket = bucket.filled(at, per_s)
        leaving = min(wanted, bucket.messages(at))
        bucket, sent = bucket.without(leaving), sent + leaving
        assert bucket.tokens >= 0
    assert sent <= per_s * (at - NOW).total_seconds() + 1


def test_a_clock_that_goes_back_fills_no_bucket() -> None:
    """W-16."""
    bucket = Bucket(0.0, NOW, NOW)
    assert bucket.filled(NOW - timedelta(hours=1), 20).tokens == 0
    assert bucket.filled(NOW - timedelta(hours=1), 20).refilled_at == NOW


def test_nothing_leaves_while_telegram_asks_for_patience() -> None:
    bucket = Bucket(5.0, NOW, NOW + timedelta(seconds=35))
    assert bucket.messages(NOW) == 0
    assert bucket.wait_s(NOW, 20) == 35
    assert bucket.messages(NOW + timedelta(seconds=35)) == 5


# Words


KEY = Key(link="vless://id@host:443?a=1&b=<2>#Turnpike", ends_at=datetime(2027, 1, 31, 21, 5, tzinfo=UTC))
DETAILS: dict[Kind, dict[str, Any]] = {
    "paid_issuing": {"price_minor": 14900},
    "access_ready": {"plan": "basic", "devices": 5},
    "topped_up": {"value_minor": 25000, "wallet_minor": 30050, "reason": "order_closed"},
    "missing": {"value_minor": 10000, "wallet_minor": 10000, "missing_minor": 4900, "reason": "too_little"},
    "left_over": {"over_minor": 4900, "wallet_minor": 4900},
    "friend_registered": {},
    "reward_earned": {
        "reward_minor": 1490,
        "percent": 10,
        "paying": 2,
        "next_level_at": 25,
        "next_percent": 25,
    },
    "access_ended": {"ended_at": "2026-11-22T12:00:00+00:00"},
}


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("kind", get_args(Kind))
def test_every_kind_has_words_in_every_language(kind: Kind, language: str) -> None:
    """N-11, N-07."""
    text = words(kind, DETAILS[kind], language, KEY).text
    assert "{" not in text
    assert bool(re.search("[а-я]", text)) == (language == "ru")


def test_the_key_message_names_the_end_the_key_and_the_way_on() -> None:
    """N-10: what is not ours to write is escaped."""
    said = words("access_ready", {"plan": "<b>mine", "devices": 1}, "en", KEY)
    assert "31 January 2027, 21:05 UTC" in said.text
    assert "<code>vless://id@host:443?a=1&amp;b=&lt;2&gt;#Turnpike</code>" in said.text
    assert "&lt;b&gt;mine, 1 device," in said.text
    assert said.button is not None
    assert said.button.callback_data == "go:access"


@pytest.mark.parametrize(("devices", "ru"), [(1, "1 устройство"), (2, "2 устройства"), (5, "5 устройств")])
def test_russian_counts_as_russian_does(devices: int, ru: str) -> None:
    assert ru in words("access_ready", {"plan": "plus", "devices": devices}, "ru", KEY).text


def test_a_reward_shows_the_way_to_the_next_level_and_the_top_shows_none() -> None:
    """N-12: the amounts are those of the fact."""
    assert "Ещё 23 друга, и будет 25\u00a0%" in words("reward_earned", DETAILS["reward_earned"], "ru").text
    top = DETAILS["reward_earned"] | {"next_level_at": None, "next_percent": None, "paying": 51, "percent": 45}
    text = words("reward_earned", top, "en").text
    assert "14.90\u00a0₽ earned" in text
    assert "highest level" in text


class _Names(Visitor):
    def __init__(self) -> None:
        self.variables: set[str] = set()

    def visit_VariableReference(self, node: ast.VariableReference) -> None:  # noqa: N802 - named by fluent.syntax.
        self.variables.add(node.id.name)


def catalogue(language: str) -> dict[str, set[str]]:
    """Every message with the arguments that it names itself."""
    source = resources.files("notifier").joinpath("texts", f"{language}.ftl").read_text(encoding="utf-8")
    found: dict[str, set[str]] = {}
    for entry in FluentParser().parse(source).body:
        assert isinstance(entry, ast.Message), entry
        names = _Names()
        names.visit(entry)
        found[entry.id.name] = names.variables
    return found


def test_both_catalogues_have_the_same_messages_and_arguments() -> None:
    """N-11."""
    assert catalogue("ru") == catalogue("en")


# Settings


def settings(**values: Any) -> Settings:
    known: dict[str, Any] = {"dsn": SecretStr("postgresql://"), "nats_url": SecretStr("nats://"), "bot_token": "1:a"}
    return Settings(**(known | values))


@pytest.mark.parametrize(
    ("wrong", "sentence"),
    [
        ({"bot_token": "no token"}, "TURNPIKE_BOT_TOKEN is not usable: a number, a colon and a secret are expected."),
        ({"messages_per_s": 0}, "TURNPIKE_NOTIFIER_MESSAGES_PER_S is not usable: Input should be greater than 0."),
        ({"telegram_api_url": "ftp://x"}, "TURNPIKE_TELEGRAM_API_URL is not usable"),
    ],
)
def test_a_wrong_setting_is_one_sentence_that_names_its_variable(wrong: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ValidationError) as refused:
        settings(**wrong)
    (said,) = mistakes(Settings, refused.value)
    assert sentence in said
    assert "no token" not in said


def test_the_defaults_are_telegrams() -> None:
    assert (settings().telegram_api_url, settings().messages_per_s) == ("https://api.telegram.org", 20.0)


def test_the_button_is_one_that_bot_gateway_understands() -> None:
    """The two services meet in this one string; neither imports the other."""
    assert Go.unpack(MY_ACCESS).to == "access"
