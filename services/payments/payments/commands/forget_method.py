"""A person makes the shop forget a saved method."""

from payments.store import saved_methods
from shared.contracts.message import Refused
from shared.contracts.payments import ForgetMethod, ForgottenMethod
from shared.platform.db import Tx


async def forget_method(command: ForgetMethod, tx: Tx) -> ForgottenMethod | Refused:
    """An invoice that charges it and was not asked for yet is refused by its job."""
    if not await saved_methods.forget_named(command.person, command.method, tx):
        return Refused(reason="method_unknown")
    return ForgottenMethod(method=command.method)
