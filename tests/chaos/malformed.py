"""Rows 23 and 24: messages that cannot be read or booked are dead-lettered and delay no others."""

import asyncio
import re
import time
from collections import Counter
from datetime import datetime
from uuid import uuid4

from shared.contracts.message import Event
from shared.contracts.streams import SUBSCRIPTIONS
from tests.chaos.crowd import Charge
from tests.chaos.load import AT_ONCE_PER_S
from tests.chaos.shop import Shop
from tests.chaos.streams import publish, until_published
from tests.chaos.trial import Trial

DEAD_LETTER = "there is no dead letter"
REPORTED = "every payment that Telegram reported has its receipt, and vice versa"
REFUSED = re.compile(
    r"^(\S+ \S+) UTC .*ERROR: .*receipts.* violates check constraint", re.MULTILINE
)

DEAD_LETTERED_AT = """
select dead_lettered_at
from payments.dead_letters
where reason like '%violates check constraint%'
"""

# Each transaction of a handler begins with its inbox rows, and that of a dead letter ends with one.
INBOX_WRITTEN = re.compile(
    r"execute [^:]+:\s+insert into inbox .*?parameters: \$1 = '(\w+)'", re.DOTALL | re.IGNORECASE
)
DEAD_LETTER_WRITTEN = "insert into dead_letters"
STATEMENTS_LOGGED = {"log_statement": "'all'", "log_parameter_max_length": "100"}
DEAD_LETTERS = " union all ".join(
    f"select handler, count(*) from {owner}.dead_letters group by handler"
    for owner in sorted({subscription.service for subscription in SUBSCRIPTIONS})
)


async def one_poison_message(trial: Trial) -> None:
    """23 (M-08): 499 applied, one dead-lettered in 1 s, or as long as a start takes here.

    The handler is called at most 10 times for it, in at most 25 transactions.
    """
    shop = trial.shop
    purchases = await trial.load.place_orders(trial.size(499, 199), only_stars=True)
    await shop.stop("payments")
    half = len(purchases) // 2
    paid = await trial.pay(purchases[:half], AT_ONCE_PER_S)
    await shop.crowd.pay([Charge(trial.load.buyers[0].chat, "no money", stars=0)])
    paid += await trial.pay(purchases[half:], AT_ONCE_PER_S)
    await until_published(shop, "bot")
    log = shop.postgres.child.log
    before = len(log.read_bytes())
    for name, value in STATEMENTS_LOGGED.items():
        await shop.fetch(f"alter role payments_app set {name} = {value}")
    await shop.start("payments")
    await trial.expect_quiescent("the shop after the poison message")
    for name in STATEMENTS_LOGGED:
        await shop.fetch(f"alter role payments_app reset {name}")
    logged = log.read_bytes()[before:].decode(errors="replace")
    began = time.monotonic()
    await shop.start("payments")  # Its open sessions still log every statement.
    start_s = time.monotonic() - began
    refused = list(REFUSED.finditer(logged))
    dead_letters = await shop.fetch(DEAD_LETTERED_AT)
    trial.faults.append(f"one poison message among {len(paid) + 1} reports")
    trial.expect(f"there is one dead letter: {len(dead_letters)}", len(dead_letters) == 1)
    trial.expected_violations.update({("payments", DEAD_LETTER): 1, ("all", REPORTED): 1})
    began_at = datetime.fromisoformat(f"{refused[0][1]}+00:00")
    dead_lettered_at = dead_letters[0][0]
    since_the_first = logged[refused[0].start() : logged.index(DEAD_LETTER_WRITTEN)]
    handled = INBOX_WRITTEN.findall(since_the_first)
    # Two more: the first transaction, and that of the dead letter.
    transactions = 2 + handled.count("payments_confirms_reported")
    trial.figures.append(
        f"called {len(refused)} times (at most 10), {transactions} transactions (at most 25)"
    )
    trial.expect("it was called at most 10 times", len(refused) <= 10)
    trial.expect("it took at most 25 transactions", transactions <= 25)
    dead_lettered_s = (dead_lettered_at - began_at).total_seconds()
    trial.expect_within("dead-lettered", dead_lettered_s, max(1.0, start_s))


async def malformed_messages(trial: Trial) -> None:
    """24: each handler dead-letters messages that it cannot read; all else goes on.

    They are not JSON, of wrong types, of 1 MB, of bad UTF-8, of an unknown version, without id.
    """
    shop = trial.shop
    purchases = await trial.load.place_orders(trial.size(400, 120))
    events = {subscription.event.topic: subscription.event for subscription in SUBSCRIPTIONS}
    before = await dead_letters_of(shop)
    paying = asyncio.create_task(trial.pay(purchases))
    messages = 0
    for event in events.values():
        for subject, body, headers in unreadable(event):
            trial.expect(f"{subject} was published", await publish(shop, subject, body, headers))
            messages += 1
            await asyncio.sleep(0.02)
    await paying
    await trial.expect_quiescent("the shop after the malformed messages")
    trial.faults.append(f"{messages} malformed messages in {len(events)} subjects")
    kinds = messages // len(events)
    dead_letters = await dead_letters_of(shop) - before
    trial.expect(
        f"each handler dead-letters {kinds}: {dead_letters}",
        dead_letters == {each.handler: kinds for each in SUBSCRIPTIONS},
    )
    handlers = Counter(subscription.service for subscription in SUBSCRIPTIONS)
    trial.expected_violations.update(
        {(service, DEAD_LETTER): kinds * count for service, count in handlers.items()}
    )


async def dead_letters_of(shop: Shop) -> Counter[str]:
    """How many dead letters each handler has."""
    return Counter({row[0]: row[1] for row in await shop.fetch(DEAD_LETTERS)})


def unreadable(event: type[Event]) -> list[tuple[str, bytes, dict[str, str]]]:
    """One message of each kind that is no event: subject, bytes, headers."""
    topic, subject = event.topic, event.subject()
    bodies = [
        b"{",
        b'{"id": 5, "at": []}',
        b"[" + b"7," * 500_000 + b"7]",
        b'{"cause": "\xff\xfe"}',
        b"null",
    ]
    messages = [(subject, body, {"Nats-Msg-Id": str(uuid4())}) for body in bodies]
    messages.append((f"evt.{topic}.v99", b"{}", {"Nats-Msg-Id": str(uuid4())}))
    messages.append((subject, f'{{"topic": "{topic}", "drawn": "{uuid4()}"}}'.encode(), {}))
    return messages
