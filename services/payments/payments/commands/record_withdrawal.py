"""Books a withdrawal of the owner at an acquirer, so that its balance equals the ledger's."""

from payments.domain import ledger
from payments.queries import ACQUIRERS
from payments.store import accounts, reconciliations
from shared.contracts.message import Refused
from shared.contracts.payments_acts import RecordWithdrawal, WithdrawalRecorded
from shared.messaging.idempotency import Changed
from shared.platform.db import Tx


async def record_withdrawal(command: RecordWithdrawal, tx: Tx) -> Changed | Refused:
    """One transfer, caused by the act. Two at once are booked one after the other."""
    acquirer, currency = command.acquirer, command.currency
    if acquirer not in ACQUIRERS:
        return Refused(reason="acquirer_unknown", detail=", ".join(ACQUIRERS))
    await reconciliations.lock_cleared(acquirer, tx)
    held_minor = -(await reconciliations.cleared(acquirer, tx)).get(currency, 0)
    if command.amount_minor > held_minor:
        return Refused(reason="not_held", detail=str(held_minor))
    cause = f"act:{command.id}"
    moved = ledger.withdrawn(cause, acquirer, currency, command.amount_minor)
    await accounts.write_transfers([moved], tx)
    left_minor = held_minor - command.amount_minor
    answer = WithdrawalRecorded(
        acquirer=acquirer,
        currency=currency,
        amount_minor=command.amount_minor,
        held_minor=left_minor,
    )
    return Changed(answer, {"held_minor": held_minor}, {"held_minor": left_minor})
