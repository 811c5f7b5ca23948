"""Rows about what nobody can read or book: it is buried, and holds nobody else back."""

import asyncio
import re
from collections import Counter
from datetime import datetime
from uuid import uuid4

from shared.contract import Fact
from shared.streams import LISTENING
from tests.chaos.crowd import Charge
from tests.chaos.load import AT_ONCE_PER_S
from tests.chaos.shop import Shop
from tests.chaos.streams import publish, until_told
from tests.chaos.trial import Trial

BURIED = "no letter lies buried"
REPORTED = "every payment that Telegram reported is a receipt, and no other"
REFUSED = re.compile(r"^(\S+ \S+) UTC .*ERROR: .*receipts.* violates check constraint", re.MULTILINE)

LETTER = "select buried_at from payments.dead_letters where reason like '%violates check constraint%'"

# A handler remembers whom it heard at the beginning of each of its transactions, and buries in one of its own.
HEARD = re.compile(r"execute [^:]+:\s+with stood_up as .*?parameters: \$1 = '(\w+)'", re.DOTALL | re.IGNORECASE)
BURIES = "insert into dead_letters"
LISTENED_TO = {"log_statement": "'all'", "log_parameter_max_length": "100"}
LETTERS = " union all ".join(
    f"select handler, count(*) from {owner}.dead_letters group by handler"
    for owner in sorted({listening.service for listening in LISTENING})
)


async def one_poison(trial: Trial) -> None:
    """23 (M-08): 499 applied, one buried in at most 1 s, called at most 10 times, at most 25 transactions."""
    shop = trial.shop
    wanted = await trial.town.orders(trial.size(499, 199))
    await shop.stop("payments")
    half = len(wanted) // 2
    paid = await trial.pay(wanted[:half], AT_ONCE_PER_S)
    await shop.crowd.pay([Charge(trial.town.members[0].chat, "no money", stars=0)])
    paid += await trial.pay(wanted[half:], AT_ONCE_PER_S)
    await until_told(shop, "bot")
    log = shop.postgres.child.log
    before = len(log.read_bytes())
    for name, value in LISTENED_TO.items():
        await shop.asked(f"alter role payments_app set {name} = {value}")
    await shop.start("payments")
    await trial.rests("what is not poison")
    for name in LISTENED_TO:
        await shop.asked(f"alter role payments_app reset {name}")
    said = log.read_bytes()[before:].decode(errors="replace")
    await shop.start("payments")  # Its sessions still tell everything.
    refused = list(REFUSED.finditer(said))
    letters = await shop.asked(LETTER)
    trial.faults.append(f"one poison among {len(paid) + 1} reports")
    trial.expect(f"one letter is buried: {len(letters)}", len(letters) == 1)
    trial.expected.update({("payments", BURIED): 1, ("all", REPORTED): 1})
    began_at = datetime.fromisoformat(f"{refused[0][1]}+00:00")
    buried_at = letters[0][0]
    since_the_first = said[refused[0].start() : said.index(BURIES)]
    transactions = 2 + HEARD.findall(since_the_first).count("payments_confirms_reported")  # The first, and the burial.
    trial.figures.append(f"called {len(refused)} times (at most 10), {transactions} transactions (at most 25)")
    trial.expect("it was called at most 10 times", len(refused) <= 10)
    trial.expect("it took at most 25 transactions", transactions <= 25)
    trial.took("buried", (buried_at - began_at).total_seconds(), 1.0)


async def malformed(trial: Trial) -> None:
    """24: not JSON, wrong types, 1 MB, bad UTF-8, unknown version, no id: buried by who hears it; all else goes on."""
    shop = trial.shop
    wanted = await trial.town.orders(trial.size(400, 120))
    facts = {listening.fact.topic: listening.fact for listening in LISTENING}
    before = await letters_of(shop)
    paying = asyncio.create_task(trial.pay(wanted))
    letters = 0
    for fact in facts.values():
        for subject, body, headers in unreadable(fact):
            trial.expect(f"{subject} was published", await publish(shop, subject, body, headers))
            letters += 1
            await asyncio.sleep(0.02)
    await paying
    await trial.rests("all but the malformed")
    trial.faults.append(f"{letters} malformed messages in {len(facts)} subjects")
    kinds = letters // len(facts)
    buried = await letters_of(shop) - before
    trial.expect(f"each handler buries {kinds}: {buried}", buried == {each.handler: kinds for each in LISTENING})
    handlers = Counter(listening.service for listening in LISTENING)
    trial.expected.update({(service, BURIED): kinds * count for service, count in handlers.items()})


async def letters_of(shop: Shop) -> Counter[str]:
    """How many letters each handler has buried."""
    return Counter({row[0]: row[1] for row in await shop.asked(LETTERS)})


def unreadable(fact: type[Fact]) -> list[tuple[str, bytes, dict[str, str]]]:
    """One message of each kind that is no fact: subject, bytes, headers."""
    topic, subject = fact.topic, fact.subject()
    bodies = [b"{", b'{"id": 5, "at": []}', b"[" + b"7," * 500_000 + b"7]", b'{"cause": "\xff\xfe"}', b"null"]
    messages = [(subject, body, {"Nats-Msg-Id": str(uuid4())}) for body in bodies]
    messages.append((f"evt.{topic}.v99", b"{}", {"Nats-Msg-Id": str(uuid4())}))
    messages.append((subject, f'{{"topic": "{topic}", "drawn": "{uuid4()}"}}'.encode(), {}))
    return messages
