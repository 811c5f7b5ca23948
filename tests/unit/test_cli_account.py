"""What is said of a payment from what its owners say of it: where it is stuck, or what is true."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import pytest

from shared.inspection import (
    AccessJob,
    Deliveries,
    DeliverySeen,
    EntrySeen,
    FactBuried,
    FactFailing,
    FactHeard,
    FactsSeen,
    FactTold,
    Grant,
    InvoiceSeen,
    OrderSeen,
    Payment,
    ReceiptSeen,
    Report,
    Reports,
    ReportUpdate,
    Rewards,
    RewardSeen,
    TransferSeen,
)
from shared.owners import OWNERS
from turnpike_cli.account import Account, listeners_of, stuck, verdict
from turnpike_cli.telling import lines

AT = datetime(2026, 11, 25, 19, tzinfo=UTC)
ENDS_AT = AT + timedelta(days=30)
ORDER, PERSON, PARTNER, RECEIPT = uuid4(), uuid4(), uuid4(), uuid4()
REPORTED, CONFIRMED, EARNED, GRANTED = (uuid4() for _ in range(4))
TOPICS = {
    REPORTED: "bot.payment.reported",
    CONFIRMED: "payments.payment.confirmed",
    EARNED: "referrals.reward.earned",
    GRANTED: "vpn.access.granted",
}


def told(fact: UUID, **fields: object) -> FactTold:
    return FactTold(**{"fact": fact, "topic": TOPICS[fact], "told_at": AT, "age_s": 60.0, "waits": False, **fields})


def facts_seen() -> dict[str, FactsSeen]:
    """Everything told and heard."""
    seen = {}
    for owner in OWNERS:
        own = tuple(told(fact) for fact, topic in TOPICS.items() if topic.startswith(f"{owner}."))
        heard = [
            FactHeard(fact=fact, handler=listening.handler, outcome="done", heard_at=AT)
            for fact, topic in TOPICS.items()
            for listening in listeners_of(topic)
            if listening.service == owner
        ]
        seen[owner] = FactsSeen(told=own, heard=tuple(heard), failing=(), buried=())
    return seen


def delivery(kind: str, state: str = "sent", **fields: object) -> DeliverySeen:
    known = {"delivery": uuid4(), "person": PERSON, "kind": kind, "cause": str(ORDER), "state": state, "reason": None}
    known |= {"tries": 0, "not_before": AT, "written_at": AT, "settled_at": AT, "fact": None}
    return DeliverySeen(**known | fields)


@pytest.fixture
def whole() -> Account:
    """Paid, rewarded, let in and told."""
    order = OrderSeen(
        order=ORDER, person=PERSON, plan="basic", months=1, price_minor=14900, received_minor=14900, state="paid",
        placed_at=AT, paid_at=AT, honoured_until=ENDS_AT, honoured=False, trace=f"00-{ORDER.hex}-00f067aa0ba902b7-01",
    )  # fmt: skip
    receipt = ReceiptSeen(
        receipt=RECEIPT, acquirer="telegram_stars", charge="stx1", payer=PERSON, currency="XTR", amount_minor=99,
        paid_at=AT, received_at=AT, outcome="bought", because="paid", value_minor=14900, fact=CONFIRMED,
    )  # fmt: skip
    update = ReportUpdate(seq=7, state="done", reason=None, tries=0, received_at=AT, ended_at=AT)
    report = Report(
        charge="stx1", currency="XTR", amount_minor=99, order=ORDER, payer=PERSON, fact=REPORTED, told_at=AT,
        updates=(update,),
    )  # fmt: skip
    reward = RewardSeen(
        receipt=RECEIPT, outcome="rewarded", partner=PARTNER, paying=1, percent=10, value_minor=14900,
        reward_minor=1490, fact=EARNED, decided_at=AT,
    )  # fmt: skip
    job = AccessJob(node="one", present=True, state="agreed", tries=0, run_at=AT, agreed_at=AT, error=None)
    grant = Grant(
        order=ORDER, person=PERSON, heard_at=AT, age_s=60.0, told_at=AT, fact=GRANTED, state="live", ends_at=ENDS_AT,
        jobs=(job,),
    )  # fmt: skip
    return Account(
        "stx1",
        payment=Payment(order=order, invoices=(), receipts=(receipt,), transfers=()),
        reports=Reports(reports=(report,)),
        rewards=Rewards(rewards=(reward,), waits_since=None, started=True, refused=None),
        grant=grant,
        deliveries=Deliveries(deliveries=(delivery("access_ready"), delivery("reward_earned"))),
        facts=facts_seen(),
    )


def test_what_is_done_is_said_in_one_sentence(whole: Account) -> None:
    assert stuck(whole) == []
    assert verdict(whole) == "paid with 99 XTR, rewarded 14.90 RUB (10 %), access until 2026-12-25 19:00, key sent."


def changed(account: Account, owner: str, **fields: object) -> Account:
    """As that, but that owner's records of facts are others."""
    return replace(account, facts=account.facts | {owner: account.facts[owner].model_copy(update=fields)})


def unheard(account: Account, owner: str, fact: UUID) -> Account:
    return changed(account, owner, heard=tuple(one for one in account.facts[owner].heard if one.fact != fact))


def untold(account: Account) -> Account:
    return changed(account, "bot", told=(told(REPORTED, waits=True),))


def buried(account: Account) -> Account:
    letter = FactBuried(
        fact=CONFIRMED, handler="vpn_grants_confirmed", letter=3, reason="ValueError: x", buried_at=AT, replayed_at=None
    )
    return changed(account, "vpn", buried=(letter,))


def failing(account: Account) -> Account:
    stumble = FactFailing(fact=CONFIRMED, handler="referrals_rewards_confirmed", tries=2, reason="KeyError: y")
    return changed(unheard(account, "referrals", CONFIRMED), "referrals", failing=(stumble,))


def job(account: Account, **fields: object) -> Account:
    assert account.grant
    jobs = tuple(one.model_copy(update=fields) for one in account.grant.jobs)
    return replace(account, grant=account.grant.model_copy(update={"jobs": jobs, "told_at": None}))


def with_delivery(account: Account, one: DeliverySeen) -> Account:
    return replace(account, deliveries=Deliveries(deliveries=(one,)))


def with_update(account: Account, state: str, **fields: object) -> Account:
    assert account.reports
    [report] = account.reports.reports
    [update] = report.updates
    update = update.model_copy(update={"state": state, "ended_at": None, **fields})
    report = report.model_copy(update={"fact": None, "updates": (update,)})
    return replace(account, reports=Reports(reports=(report,)), payment=None)


def suspense(account: Account) -> Account:
    assert account.payment
    fields = {"outcome": "suspense", "because": "payer_unknown", "value_minor": None}
    receipts = tuple(one.model_copy(update=fields) for one in account.payment.receipts)
    return replace(account, payment=account.payment.model_copy(update={"receipts": receipts}))


@pytest.mark.parametrize(
    ("breaks", "said"),
    [
        (untold, "stuck at bot-gateway: bot.payment.reported waits for the broker since 2026-11-25 19:00:00.000; do: "),
        (
            lambda account: unheard(account, "vpn", CONFIRMED),
            "stuck at vpn-provisioner: vpn_grants_confirmed has not heard of payments.payment.confirmed; do: see that",
        ),
        (
            buried,
            "stuck at vpn-provisioner: vpn_grants_confirmed buried payments.payment.confirmed (ValueError: x); do: "
            "mend the cause, then turnpike dead replay vpn 3.",
        ),
        (
            failing,
            "stuck at referrals: referrals_rewards_confirmed fails on payments.payment.confirmed after 2 tries "
            "(KeyError: y); do: mend the cause; it is tried again by itself.",
        ),
        (
            lambda account: job(account, state="dead", tries=10, error="PanelRefused: no"),
            "stuck at vpn-provisioner: node one did not take the access after 10 tries (PanelRefused: no); do: mend "
            f"the cause, then turnpike dead replay vpn {PERSON}.",
        ),
        (
            lambda account: job(account, state="waiting"),
            "stuck at vpn-provisioner: the access waits for node one; do: see that node one answers",
        ),
        (
            lambda account: with_delivery(account, delivery("access_ready", "waiting", tries=4, reason="502")),
            "stuck at notifier: the message access_ready waits until 2026-11-25 19:00:00.000 after 4 tries (502); do: ",
        ),
        (
            lambda account: with_delivery(account, delivery("access_ready", "failed", reason="400: bad")),
            "stuck at notifier: the message access_ready was not delivered (400: bad); do: write to the person.",
        ),
        (
            lambda account: with_update(account, "waiting", tries=3, reason="PostgresError"),
            "stuck at bot-gateway: the report waits since 2026-11-25 19:00:00.000 after 3 tries (PostgresError); do: ",
        ),
        (
            lambda account: with_update(account, "failed", reason="KeyError: 'currency'"),
            "stuck at bot-gateway: nobody can read the report in update 7 (KeyError: 'currency'); do: see in Telegram",
        ),
        (suspense, "stuck at payments: 99 XTR rest in suspense (payer_unknown); do: find out whose they are."),
        (
            lambda account: replace(account, silent=("notifier",)),
            "stuck at notifier: it does not answer; do: see that notifier runs.",
        ),
    ],
)
def test_where_it_stands_still_is_said_with_what_to_do(
    whole: Account, breaks: Callable[[Account], Account], said: str
) -> None:
    """R-26, P-08: whatever stops a payment has a place, a reason and a next step."""
    assert verdict(breaks(whole)).startswith(said)


def test_what_is_young_is_on_its_way(whole: Account) -> None:
    """The owner's clock says how old it is; a healthy shop is not called stuck in the moment between two services."""
    young = changed(unheard(whole, "vpn", CONFIRMED), "payments", told=(told(CONFIRMED, age_s=0.2),))
    assert verdict(young).startswith("on its way at vpn-provisioner: vpn_grants_confirmed has not heard of")


def test_the_earliest_step_is_named_and_the_others_are_listed(whole: Account) -> None:
    broken = buried(unheard(whole, "payments", REPORTED))
    assert verdict(broken).startswith("stuck at payments: payments_confirms_reported has not heard of")
    assert [one.where for one in stuck(broken)] == ["payments", "vpn-provisioner"]
    assert "what is not done" in lines(broken)


@pytest.mark.parametrize(
    ("order", "receipt", "said"),
    [
        (
            {"state": "open", "honoured": True},
            None,
            "not paid: the order is open, money that comes until 2026-12-25 19:00",
        ),
        ({"state": "open"}, None, "not paid, and too old to buy since 2026-12-25 19:00."),
        ({"state": "closed"}, None, "not paid, and closed: a newer order was paid."),
        (
            {"state": "closed"},
            {"outcome": "wallet", "because": "order_closed"},
            "99 XTR came and 149.00 RUB are in the wallet (order_closed), rewarded",
        ),
        (
            {"state": "open", "received_minor": 100},
            {"outcome": "wallet", "because": "too_little", "value_minor": 100},
            "99 XTR came and 1.00 RUB are in the wallet (too_little, 148.00 RUB are missing), rewarded",
        ),
    ],
)
def test_what_money_became_is_named(
    whole: Account, order: dict[str, object], receipt: dict[str, object] | None, said: str
) -> None:
    assert whole.payment
    assert whole.payment.order
    receipts = tuple(one.model_copy(update=receipt) for one in whole.payment.receipts if receipt)
    changes = {"order": whole.payment.order.model_copy(update=order), "receipts": receipts}
    account = replace(whole, payment=whole.payment.model_copy(update=changes), grant=None, deliveries=None)
    assert verdict(account).startswith(said)


@pytest.mark.parametrize(
    ("rewards", "said"),
    [
        ({"outcome": "no_partner", "partner": None}, "no reward (no_partner)"),
        ({"outcome": "below_a_kopeck", "reward_minor": 0}, "no reward (below_a_kopeck)"),
        (None, "the reward waits for the payer's start"),
    ],
)
def test_why_there_is_no_reward_is_named(whole: Account, rewards: dict[str, object] | None, said: str) -> None:
    assert whole.rewards
    decided = tuple(one.model_copy(update=rewards) for one in whole.rewards.rewards if rewards)
    waits = None if rewards else AT
    account = replace(whole, rewards=whole.rewards.model_copy(update={"rewards": decided, "waits_since": waits}))
    assert said in verdict(account)


def test_every_line_fits_and_obeys_no_control_characters(whole: Account) -> None:
    account = replace(job(whole, state="dead", error="bad \x1b[31m\n" + "word " * 60), silent=("bot",))
    written = lines(account)
    assert max(len(line) for line in written) <= 100
    assert not [line for line in written if not line.isprintable()]


def test_a_story_that_went_well_fits_one_screen(whole: Account) -> None:
    """With all that may be there of one payment: invoices, transfers, messages. The entries are for who asks."""
    assert whole.payment
    invoice = InvoiceSeen(
        invoice=uuid4(), way="stars", asked_minor=99, currency="XTR", state="paid", opened_at=AT, expires_at=AT,
        expired=False,
    )  # fmt: skip
    entries = tuple(
        EntrySeen(account=account, owner=PERSON, currency="RUB", amount_minor=14900)
        for account in ("wallet", "revenue")
    )
    transfers = tuple(
        TransferSeen(transfer=uuid4(), cause="a cause", reason=reason, person=PERSON, at=AT, entries=entries)
        for reason in ("receipt", "purchase", "reward")
    )
    kinds = ("paid_issuing", "access_ready", "left_over", "reward_earned")
    account = replace(
        whole,
        payment=whole.payment.model_copy(update={"invoices": (invoice,), "transfers": transfers}),
        deliveries=Deliveries(deliveries=tuple(delivery(kind) for kind in kinds)),
    )
    short, long = lines(account), lines(account, entries=True)
    assert len(short) <= 40
    assert len(long) == len(short) + sum(len(transfer.entries) for transfer in transfers)
    assert next(line for line in long if line not in short).split()[:3] == ["149.00", "RUB", "wallet"]
    handlers = [listening.handler for topic in TOPICS.values() for listening in listeners_of(topic)]
    assert not [handler for handler in handlers if handler not in "".join(short)]


def test_a_handler_that_is_not_done_has_a_line_of_its_own(whole: Account) -> None:
    """What happened to each is told apart from those that are done with it."""
    for broken, said in (
        (unheard(whole, "vpn", CONFIRMED), "vpn_grants_confirmed: not heard"),
        (failing(whole), "referrals_rewards_confirmed: failed 2 times, KeyError: y"),
        (buried(whole), "vpn_grants_confirmed: done (letter 3)"),
    ):
        written = [line[25:].strip() for line in lines(broken)]
        assert said in written, said
