"""An operator's credit or debit of a person's wallet."""

from payments.domain import ledger
from payments.domain.ledger import Holdings
from payments.store import accounts
from shared.contracts.message import Refused
from shared.contracts.payments_acts import AdjustBalance, Adjusted
from shared.messaging.idempotency import Changed
from shared.platform.db import Tx


async def adjust_balance(command: AdjustBalance, tx: Tx) -> Changed:
    """One transfer, caused by the act. A credit then settles the debt of the person."""
    person = command.person
    before = (await accounts.lock_holdings([person], tx))[person]
    missing_minor = -command.amount_minor - before.wallet_minor
    if missing_minor > 0:
        refused = Refused(reason="balance_short", detail=str(missing_minor))
        return Changed(refused, balances_in(before), None)
    cause = f"act:{command.id}"
    transfers = [ledger.adjustment(before, cause, command.amount_minor, command.source)]
    after = before.after(transfers[0])
    if command.amount_minor > 0 and (settled := ledger.owed_settled(after, cause)):
        transfers.append(settled)
        after = after.after(settled)
    await accounts.write_transfers(transfers, tx)
    balances = balances_in(after)
    answer = Adjusted(person=person, amount_minor=command.amount_minor, **balances)
    return Changed(answer, balances_in(before), balances)


def balances_in(holdings: Holdings) -> dict[str, int]:
    """As the row of an act keeps them, in kopecks."""
    return {
        "wallet_minor": holdings.wallet_minor,
        "earned_minor": holdings.earned_minor,
        "owed_minor": holdings.owed_minor,
    }
