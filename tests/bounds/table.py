"""The bounds in buffers of the statements of the services, measured in the large shop."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4


def id_(what: str, number: int) -> UUID:
    """The id that `fill.py` makes of a number."""
    return UUID(hashlib.md5(f"{what}{number}".encode(), usedforsecurity=False).hexdigest())


@dataclass(frozen=True)
class Bound:
    """The arguments of a statement, and the buffers that it may read: 2.5 times what it does."""

    buffers: int
    arguments: Sequence[object] = ()


NOW = datetime.now(UTC)
HOUR = NOW.replace(minute=0, second=0, microsecond=0)
LONG_AGO = datetime(1970, 1, 1, tzinfo=UTC)
LOWEST = UUID(int=0)
PARTNER, BUYER = id_("person", 1), id_("person", 400_000)
NODE = id_("node", 1)
HANDLER = "payments_confirms_reported"
TOPIC = "payments.payment.confirmed"
IDS = [id_("order", n) for n in range(1, 2_001)]
DAY = timedelta(days=1)
TWO_HOURS = (NOW - timedelta(hours=2), LOWEST, NOW, LOWEST)
# Pages of keys: the newest, and from the first row, as in a full audit.
LATELY = (LONG_AGO, LOWEST, 25.0, 0.0, 2_000)
EVER = (LONG_AGO, LOWEST, 1e6, 0.0, 2_000)

PRUNED = 60_000
"""Five thousand rows that are dropped, with their index entries: 2 to 6 buffers for each."""
NOTHING = 40
"""A search in an index that finds nothing, or a few rows."""

BOUNDS = {
    # bot-gateway: lanes, gauges, pages of keys
    "bot_gateway.store.intake.CLAIM_CHATS": Bound(20_000, (uuid4(), DAY, 100)),
    "bot_gateway.store.intake.STEP": Bound(NOTHING, (uuid4(), 1, 1, "done", None, DAY)),
    "bot_gateway.store.intake.TAKE_REPORTS": Bound(NOTHING, (200,)),
    "bot_gateway.store.intake.CLAIM_CHECKOUTS": Bound(NOTHING, (DAY, DAY, 100)),
    "bot_gateway.store.intake.STATE_OF_INTAKE": Bound(500),
    "bot_gateway.store.people.PERSON_BY_TELEGRAM": Bound(NOTHING, (1,)),
    "bot_gateway.store.people.PERSON_OF_SCREEN": Bound(NOTHING, (PARTNER, LOWEST)),
    "bot_gateway.store.people.PERSON_BY_ID": Bound(NOTHING, (PARTNER,)),
    "bot_gateway.store.people.INVITER": Bound(NOTHING, (str(id_("code", 1)),)),
    "bot_gateway.store.token_buckets.PAUSED_FOR": Bound(NOTHING, ("1",)),
    "bot_gateway.store.checkout_holds.WAS_CHARGED": Bound(NOTHING, ("1",)),
    "bot_gateway.store.checkout_holds.CHARGED_OF_ORDER": Bound(NOTHING, ("1", 100)),
    "bot_gateway.store.star_walks.CLAIM": Bound(NOTHING, (1, uuid4(), DAY, True)),
    "bot_gateway.store.star_refunds.CLAIM": Bound(NOTHING, (uuid4(), DAY)),
    "bot_gateway.store.star_refunds.NEXT_REFUND": Bound(NOTHING),
    "bot_gateway.audit.REPORTED": Bound(NOTHING, (LONG_AGO, 0, 25.0, 0.0, 2_000)),
    "bot_gateway.audit.NOT_REPORTED": Bound(
        NOTHING, ([f"telegram_stars:{n}" for n in range(2_000)],)
    ),
    "bot_gateway.audit.COUNTS": Bound(250),
    # payments: a person's screens, even of a partner with 100 000 rewards
    "payments.store.balances.BALANCES": Bound(NOTHING, (PARTNER,)),
    "payments.store.balances.YOUNG_REWARDS": Bound(NOTHING, (PARTNER, timedelta(days=21))),
    "payments.store.balances.MOVEMENTS": Bound(350, (PARTNER, 11)),
    "payments.store.balances.MOVEMENTS_BEFORE": Bound(350, (PARTNER, 11, NOW, "reward", LOWEST)),
    "payments.store.balances.MOVEMENTS_AFTER": Bound(
        350, (PARTNER, 11, LONG_AGO, "reward", LOWEST)
    ),
    "payments.store.balances.TRANSFER_OF": Bound(NOTHING, (PARTNER, LOWEST)),
    "payments.store.balances.TOPPED_UP": Bound(500, ([f"telegram_stars:{n}" for n in range(11)],)),
    "payments.store.balances.RECEIPTS_OF": Bound(NOTHING, (PARTNER,)),
    "payments.store.payments.PAYMENTS_OF": Bound(70, (PARTNER, 20)),
    "payments.store.catalogue.PLANS": Bound(NOTHING),
    "payments.store.catalogue.RATES": Bound(NOTHING),
    "payments.store.catalogue.PRICE": Bound(NOTHING, ("basic", 1)),
    "payments.store.catalogue.WAYS": Bound(NOTHING),
    "payments.store.catalogue.WAY": Bound(NOTHING, ("stars",)),
    "payments.store.orders.HELD": Bound(NOTHING, (PARTNER,)),
    "payments.store.orders.OFFERS": Bound(
        2_000, ([id_("invoice", n) for n in range(1, 101)], IDS[:100])
    ),
    "payments.store.orders.ORDER_SEEN": Bound(NOTHING, (id_("order", 1), DAY)),
    "payments.store.orders.NEWEST_INVOICE": Bound(NOTHING, (id_("order", 1),)),
    "payments.store.orders.SUPERSEDE_OLDER": Bound(6_500, (PARTNER, uuid4(), 100, "subscription")),
    "payments.store.orders.LOCK_ORDERS": Bound(2_000, (IDS[:100], [PARTNER], 20)),
    "payments.store.orders.RECEIVED_PARTS": Bound(NOTHING, ([PARTNER], 20)),
    "payments.store.orders.EXPIRE": Bound(55_000, (1_000,)),
    "payments.store.orders.PRUNE": Bound(45_000, (30 * DAY, 1_000)),
    "payments.store.invoice_jobs.CLAIM_OPENING": Bound(2_000, ("cryptobot", 10, uuid4(), DAY)),
    "payments.store.invoice_jobs.NEXT_JOB": Bound(NOTHING, ("yookassa", "watch")),
    "payments.store.invoice_jobs.COUNTS": Bound(2_500, (["cryptobot", "yookassa"],)),
    # After an outage: a million jobs are due, and a lot of the oldest and one of the newest come.
    "payments.store.watched.CLAIM": Bound(60_000, ("yookassa", 1_000, 1, uuid4(), DAY)),
    "payments.store.orders.CHARGE_UNDER_WAY": Bound(NOTHING, (IDS[0],)),
    "payments.store.orders.CHARGED_ELSEWHERE": Bound(1_000, (PARTNER, "topup", IDS[0], 20)),
    "payments.store.saved_methods.OF_PERSON": Bound(NOTHING, (PARTNER, 3)),
    "payments.store.saved_methods.NAMED": Bound(NOTHING, (PARTNER, "s0a1b2c")),
    "payments.store.fiscal.OPEN_ADVANCES": Bound(NOTHING, ([PARTNER], 100)),
    "payments.store.fiscal.CLAIM": Bound(2_000, ("yookassa", 10, uuid4(), DAY, "a@example.org")),
    "payments.store.fiscal.LEFT": Bound(2_500, ("yookassa",)),
    "payments.store.notices.CLAIM": Bound(30_000, ("yookassa", 1_000, 1, uuid4(), DAY)),
    "payments.store.notices.NEXT_NOTICE": Bound(NOTHING, ("yookassa",)),
    # A million refunds of a year, of which few are under way.
    "payments.store.outgoing.CLAIM": Bound(250, ("yookassa", 5, uuid4(), DAY)),
    "payments.store.outgoing.NEXT_REFUND": Bound(NOTHING, ("yookassa",)),
    "payments.store.outgoing.COUNTS": Bound(2_500, (["cryptobot", "yookassa"],)),
    "payments.store.notices.INSERT": Bound(100, ("yookassa", "new", "payment", b"{}", 500)),
    "payments.store.balances.TRIAL_BALANCE": Bound(750),
    # A page of the closing, and a closed day: the same for any day, and after any number of them.
    "payments.store.closing.LOCK_CLOSING": Bound(NOTHING),
    "payments.store.closing.CLOSING_PAGE": Bound(85, (LONG_AGO, LOWEST, NOW.date(), 5_000)),
    "payments.store.closing.CLOSE_DAY": Bound(250),
    "payments.store.closing.CLOSING": Bound(NOTHING),
    "payments.store.closing.OPEN_DAY": Bound(NOTHING),
    "payments.store.closing.DAY_PAGE": Bound(
        85, (LONG_AGO, LOWEST, NOW.date(), NOW, LOWEST, 5_000)
    ),
    "payments.store.closing.LAST_DAY": Bound(NOTHING),
    "payments.store.closing.IS_CLOSED": Bound(NOTHING, (NOW.date(),)),
    "payments.store.closing.DAY": Bound(NOTHING, (NOW.date() - 30 * DAY,)),
    "payments.store.balances.HELD": Bound(NOTHING, (PARTNER,)),
    "payments.store.balances.MOVED_PAGE": Bound(15_000, (PARTNER, LONG_AGO, LOWEST)),
    "payments.store.balances.UNEQUAL": Bound(25_000, ([id_("person", n) for n in range(1, 501)],)),
    # Runs of a provider of 90 days, among which none is due; and a page of a window.
    "payments.store.reconciliation_leases.START_HOURLY": Bound(
        NOTHING, ("yookassa", uuid4(), 31 * DAY, DAY / 8, DAY / 720, DAY / 24)
    ),
    "payments.store.reconciliation_leases.START_DAILY": Bound(
        NOTHING, ("yookassa", uuid4(), DAY / 48, DAY / 24)
    ),
    "payments.store.reconciliation_leases.NEXT": Bound(NOTHING, ("yookassa", 0)),
    "payments.store.reconciliations.UNFINISHED": Bound(NOTHING, ("yookassa",)),
    "payments.store.reconciliations.UNLISTED": Bound(
        20_000, ("yookassa", LONG_AGO, "", NOW, id_("run", 1), 2_000)
    ),
    "payments.store.reconciliations.CLEARED": Bound(750, ("telegram_stars",)),
    "payments.store.reconciliations.BOOKED_SINCE": Bound(
        1_500, ("yookassa", NOW - DAY / 24, 20_000)
    ),
    "payments.store.reconciliations.CLEAR": Bound(60_000, (id_("run", 1), 5_000)),
    "payments.audit.OWNERS_OF_PAGE": Bound(NOTHING, (LOWEST, UUID("000f" + "0" * 28))),
    "payments.audit.PEOPLE_OF_TRANSFERS": Bound(
        900, (NOW - timedelta(hours=2), LOWEST, NOW, LOWEST)
    ),
    "payments.audit.COUNTS": Bound(800),
    "payments.store.keys.REPORTED": Bound(90, LATELY),
    "payments.store.keys.RECEIVED": Bound(150, EVER),
    "payments.store.keys.BOUGHT": Bound(150, EVER),
    "payments.store.keys.REWARDED": Bound(4_000, EVER),
    "payments.store.keys.MISSING_RECEIPTS": Bound(
        20_000, ([f"telegram_stars:{n}" for n in range(2_000)],)
    ),
    "payments.store.keys.MISSING_RECEIVED": Bound(15_000, ([f"{one} 1" for one in IDS],)),
    "payments.store.keys.MISSING_BOUGHT": Bound(20_000, ([str(one) for one in IDS],)),
    "payments.store.keys.MISSING_REWARDS": Bound(
        45_000, ([f"{id_('receipt', n)} {PARTNER} 1490" for n in range(1, 2_001)],)
    ),
    "payments.store.refunds.WAITING_OF": Bound(NOTHING, ([id_("receipt", 1)],)),
    "payments.store.refunds.MET_LATE": Bound(10_000, (1_000, 100)),
    "payments.store.refunds.SPENT_SINCE": Bound(
        NOTHING, ([id_("receipt", 1)], [PARTNER], [LONG_AGO], 20)
    ),
    "payments.store.refunds.LOCK_PURCHASES": Bound(1_000, (IDS[:21],)),
    "payments.store.debts.SETTLE": Bound(300, ([PARTNER], 20)),
    "payments.store.debts.SETTLED": Bound(NOTHING, (100,)),
    "payments.store.debts.LOCK_SETTLED": Bound(NOTHING, (PARTNER,)),
    "payments.store.debts.LOST": Bound(NOTHING, (id_("refund", 100_001),)),
    "payments.store.debts.BOUGHT_SINCE": Bound(150, (PARTNER, LONG_AGO, 20)),
    "payments.store.keys.REFUNDED": Bound(20_000, EVER),
    "payments.store.keys.UNDONE": Bound(150, EVER),
    "payments.store.keys.REVERSED": Bound(4_000, EVER),
    "payments.store.keys.MISSING_REFUNDED": Bound(
        40_000, ([f"{id_('refund', n)} {PARTNER} 14900" for n in range(100_001, 102_001)],)
    ),
    "payments.store.keys.MISSING_UNDONE": Bound(
        20_000,
        ([f"{id_('refund', n)} {id_('order', n)} 14900" for n in range(100_001, 102_001)],),
    ),
    "payments.store.keys.MISSING_REVERSED": Bound(
        45_000, ([f"{id_('refund', n)} {PARTNER} 1490" for n in range(1, 2_001)],)
    ),
    # referrals
    "referrals.store.reversals.NOTHING_LEFT": Bound(
        3_000, ([id_("person", n) for n in range(2, 102)],)
    ),
    "referrals.store.reversals.MET_LATE": Bound(NOTHING, (1_000, 100)),
    "referrals.audit.REFUNDED": Bound(NOTHING, EVER),
    "referrals.audit.REVERSED": Bound(NOTHING, EVER),
    "referrals.audit.REFUNDED_MISSING": Bound(10_000, ([f"{one} {PARTNER} 1" for one in IDS],)),
    "referrals.audit.REVERSED_MISSING": Bound(10_000, ([f"{one} {PARTNER} 1" for one in IDS],)),
    "referrals.store.invitations.COUNTS": Bound(NOTHING, (PARTNER,)),
    "referrals.store.rewards.SCALE": Bound(NOTHING),
    "referrals.audit.DECIDED": Bound(150, EVER),
    "referrals.audit.REWARDS": Bound(NOTHING, LATELY),
    "referrals.audit.DECIDED_MISSING": Bound(15_000, ([f"{one} 1" for one in IDS],)),
    "referrals.audit.REWARDS_MISSING": Bound(15_000, ([f"{one} {PARTNER} 1" for one in IDS],)),
    "referrals.audit.COUNTS": Bound(500),
    # vpn-provisioner
    "vpn_provisioner.store.subscriptions.EXPIRE": Bound(NOTHING, (500,)),
    "vpn_provisioner.store.subscriptions.REVIVE": Bound(NOTHING, (500,)),
    "vpn_provisioner.store.reminders.CLAIM": Bound(300, (25,)),
    "vpn_provisioner.store.subscriptions.ACCESS": Bound(NOTHING, (BUYER,)),
    "vpn_provisioner.store.subscriptions.KEY": Bound(NOTHING, (BUYER,)),
    "vpn_provisioner.store.jobs.CLAIM": Bound(NOTHING, (NODE, False, 300, uuid4(), DAY)),
    "vpn_provisioner.store.jobs.COUNTS": Bound(NOTHING),
    "vpn_provisioner.store.jobs.PAGE": Bound(4_500, (NODE, LOWEST, 1_000, NOW)),
    "vpn_provisioner.store.nodes.SERVING": Bound(NOTHING),
    "vpn_provisioner.store.nodes.RETIRED": Bound(NOTHING, (NODE,)),
    "vpn_provisioner.store.nodes.LIKE_IT": Bound(NOTHING, (NODE, "two", "a", "b")),
    "vpn_provisioner.store.nodes.INCARNATION": Bound(NOTHING, (NODE,)),
    "vpn_provisioner.store.nodes.PUT_BACK_CURSOR": Bound(NOTHING, (NODE,)),
    "vpn_provisioner.store.nodes.PUT_BACK": Bound(8_000, (NODE, "default", LOWEST, 1_000)),
    "vpn_provisioner.store.periods.PERIODS_OF": Bound(NOTHING, ([BUYER],)),
    "vpn_provisioner.store.periods.SUBSCRIPTIONS": Bound(
        2_000, ([id_("person", n) for n in range(1, 101)],)
    ),
    "vpn_provisioner.audit.PEOPLE_OF_PERIODS": Bound(NOTHING, TWO_HOURS),
    "vpn_provisioner.store.shortenings.SHORTENED_LATELY": Bound(NOTHING, (500,)),
    "vpn_provisioner.audit.PEOPLE_OF_SHORTENINGS": Bound(NOTHING, TWO_HOURS),
    "vpn_provisioner.audit.UNDONE": Bound(NOTHING, EVER),
    "vpn_provisioner.audit.NOT_UNDONE": Bound(10_000, ([f"{one} {one} 1" for one in IDS],)),
    "vpn_provisioner.audit.PEOPLE_OF_PAGE": Bound(NOTHING, (LOWEST, UUID("000f" + "0" * 28))),
    "vpn_provisioner.audit.COUNTS": Bound(650),
    "vpn_provisioner.audit.BOUGHT": Bound(NOTHING, EVER),
    "vpn_provisioner.audit.GRANTED": Bound(150, LATELY),
    "vpn_provisioner.audit.NOT_BOUGHT": Bound(20_000, ([str(one) for one in IDS],)),
    "vpn_provisioner.audit.NOT_GRANTED": Bound(20_000, ([str(one) for one in IDS],)),
    # notifier
    "notifier.store.claims.NEXT_DUE": Bound(NOTHING),
    "notifier.store.claims.CLAIM_CHATS": Bound(1_500, (uuid4(), 30, 5.0, [])),
    "notifier.store.claims.CLAIM": Bound(2_500, ([id_("person", n) for n in range(1, 31)],)),
    "notifier.store.claims.GIVE_UP": Bound(NOTHING, ([PARTNER], ["access_expiring"], "died")),
    "notifier.store.claims.PICK_UP": Bound(NOTHING, ([PARTNER],)),
    "notifier.store.claims.RELEASE": Bound(
        NOTHING, ([PARTNER], [True], [True], [0.0], uuid4(), 1.0)
    ),
    "notifier.store.buckets.LOCK": Bound(NOTHING, (30.0, 1.0)),
    "notifier.store.buckets.KEEP": Bound(NOTHING, (1.0, NOW)),
    "notifier.store.deliveries.OPEN": Bound(150),
    "notifier.store.deliveries.SUPERSEDE": Bound(NOTHING, ([PARTNER],)),
    "notifier.store.deliveries.DELIVERIES": Bound(NOTHING, ([PARTNER], [str(IDS[0])], 100)),
    "notifier.store.recipients.SCHEDULE": Bound(50, ([PARTNER], 1.0)),
    "notifier.audit.COUNTS": Bound(700),
    "notifier.audit.ORDERS": Bound(200, EVER),
    "notifier.audit.KEYS": Bound(3_500, LATELY),
    "notifier.audit.REWARDS": Bound(3_500, LATELY),
    "notifier.audit.REFUNDS": Bound(3_500, LATELY),
    "notifier.audit.REFUNDS_MISSING": Bound(20_000, ([f"{one} {PARTNER} 1" for one in IDS],)),
    "notifier.audit.ORDERS_MISSING": Bound(20_000, ([str(one) for one in IDS],)),
    "notifier.audit.KEYS_MISSING": Bound(25_000, ([str(one) for one in IDS],)),
    "notifier.audit.REWARDS_MISSING": Bound(20_000, ([f"{one} {PARTNER} 1" for one in IDS],)),
    # shared: relays, gauges, the anti-entropy check
    "shared.messaging.outbox.STATE": Bound(NOTHING),
    "shared.messaging.retries.STATE": Bound(350, ([HANDLER],)),
    "shared.messaging.retries.DUE_HANDLERS": Bound(350, ([HANDLER],)),
    "shared.messaging.retries.TAKE_DUE": Bound(2_000, (HANDLER, 50, DAY)),
    "shared.messaging.failures.OTHERS_PASSED": Bound(NOTHING, (HANDLER, id_("failed", 1))),
    "shared.messaging.relay.IS_PENDING": Bound(NOTHING),
    "shared.messaging.relay.TAKE": Bound(NOTHING, (0, 500)),
    "shared.messaging.relay.REPUBLISH_PAGE": Bound(75_000, (DAY, LONG_AGO, 0, 5_000)),
    "shared.operations.status.SERVER_AND_DEAD_LETTERS": Bound(NOTHING),
    # Up to 10 000 unknown events are counted.
    "shared.operations.anti_entropy.STATE": Bound(250),
    "shared.operations.anti_entropy.CHECKSUMS": Bound(
        250, (TOPIC, HOUR - timedelta(hours=3), HOUR)
    ),
    "shared.operations.anti_entropy.PUBLISHED_IDS": Bound(
        50, (TOPIC, HOUR - timedelta(hours=1), LOWEST, 4_000)
    ),
    # Each event of three hours is looked up among the unknown ones.
    "shared.operations.anti_entropy.OWN": Bound(11_000, (HANDLER, HOUR - timedelta(hours=3), HOUR)),
}

# Pruning: nothing is due, and then more than a page is due. The statement makes 50 000 rows old.
AGED = {
    "shared.messaging.inbox.DROP_OLD": """
update inbox
set hour = hour - interval '1 year', handled_at = handled_at - interval '1 year'
where handled_at < now() - interval '39 days'
""",
    "shared.messaging.outbox.DROP_OLD": """
update events
set recorded_at = recorded_at - interval '1 year'
where recorded_at < now() - interval '26 days'
""",
    "shared.messaging.conflicts.DROP_OLD": """
update conflicts
set seen_at = seen_at - interval '1 year'
where seen_at < now() - interval '300 days'
""",
    "shared.operations.anti_entropy.DROP_UNKNOWN_EVENTS": """
update unknown_events
set noted_at = noted_at - interval '1 year'
where noted_at < now() - interval '300 days'
""",
    "shared.messaging.inbox.DROP_REPLAYED": """
update dead_letters
set replayed_at = replayed_at - interval '1 year'
where replayed_at < now() - interval '74 days'
""",
    "shared.messaging.idempotency.DROP_OLD": """
update commands
set executed_at = executed_at - interval '1 year'
where executed_at < now() - interval '74 days'
""",
    "bot_gateway.store.intake.DROP_ENDED_UPDATES": """
update updates
set ended_at = ended_at - interval '1 year'
where state = 'done' and ended_at < now() - interval '2.6 days'
""",
    "bot_gateway.store.intake.DROP_FAILED_UPDATES": """
update updates
set received_at = received_at - interval '1 year'
where state = 'failed' and chat < 50000
""",
    "bot_gateway.store.people.DROP_OLD_REFUSALS": """
update refusals
set at = at - interval '1 year'
where at < now() - interval '74 days'
""",
    "bot_gateway.store.checkout_holds.DROP_OLD_HOLDS": """
update checkout_holds
set approved_at = approved_at - interval '1 year'
where approved_at < now() - interval '19 hours'
""",
    "bot_gateway.store.token_buckets.DROP_FULL_BUCKETS": """
update buckets
set filled_at = filled_at - interval '1 year'
where filled_at < now() + interval '1 hour'
""",
    "payments.store.debts.DROP_OLD": """
update debts
set opened_at = opened_at - interval '1 year'
where refund in (select refund from debts order by refund limit 50000)
""",
    "payments.store.rewards.DROP_OLD_HOURS": """
update reward_hours
set hour = hour - interval '1 year'
where hour < now() - interval '48 days'
""",
    "payments.store.outgoing.DROP_OLD": """
update outgoing_refunds
set ended_at = ended_at - interval '2 years'
where ended_at < now() - interval '380 days'
""",
    "bot_gateway.store.star_refunds.DROP_ENDED_REFUNDS": """
update star_refunds
set ended_at = ended_at - interval '1 year'
where ended_at < now() - interval '40 days'
""",
    "payments.store.notices.DROP_OLD": """
update notices
set received_at = received_at - interval '1 year'
where state = 'done' and received_at < now() - interval '28 days'
""",
    "payments.store.fiscal.DROP_UNPAID": """
update fiscal_receipts
set state = 'asked', made_at = made_at - interval '1 year'
where made_at < now() - interval '950 days'
""",
    "payments.store.fiscal.DROP_OLD": """
update fiscal_receipts
set made_at = made_at - interval '1 year'
where made_at < now() - interval '950 days'
""",
    "payments.store.saved_methods.DROP_UNUSED": """
update saved_methods
set used_at = used_at - interval '1 year'
where used_at < now() - interval '800 days'
""",
    "payments.store.reconciliations.DROP_OLD_DIFFERENCES": """
update reconciliation_differences
set found_at = found_at - interval '1 year'
where found_at < now() - interval '83 days'
""",
    "payments.store.reconciliations.DROP_OLD_RUNS": """
update reconciliations
set started_at = started_at - interval '1 year'
where started_at < now() - interval '83 days'
""",
    "referrals.store.invitations.DROP_OLD_REFUSALS": """
update refusals
set refused_at = refused_at - interval '1 year'
where refused_at < now() - interval '74 days'
""",
    "vpn_provisioner.store.jobs.DROP_GONE_JOBS": """
update access_jobs
set agreed_at = agreed_at - interval '1 year'
where not present and agreed_at < now() - interval '74 days'
""",
    "notifier.store.deliveries.DROP_OLD_DELIVERIES": """
update deliveries
set written_at = written_at - interval '1 year'
where written_at < now() - interval '328 days'
""",
}
