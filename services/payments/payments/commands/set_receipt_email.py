"""A person gives an e-mail for receipts, or none."""

from payments.domain.fiscal import is_email
from payments.store import receipt_emails
from shared.contracts.message import Refused
from shared.contracts.payments import SetReceiptEmail, SetReceiptEmailAnswer
from shared.platform.db import Tx


async def set_receipt_email(command: SetReceiptEmail, tx: Tx) -> SetReceiptEmailAnswer | Refused:
    """Receipts that were frozen before keep theirs."""
    if command.email is not None and not is_email(command.email):
        return Refused(reason="email_invalid")
    await receipt_emails.set_email(command.person, command.email, tx)
    return SetReceiptEmailAnswer(person=command.person)
