"""Failpoints: named steps at which a test can end the process.

`TURNPIKE_FAILPOINT="<step> <who> <nth>"` ends this process, as `kill -9` would, when it reaches
the step for the nth time. `who` is a handler, an owner or a command's topic; "-" means any.
Without the variable a failpoint costs one comparison.
"""

import os

STATUS = 86
"""The exit status of a process that ended at a failpoint: no other death has it."""

STEPS = {
    "update_written": "an update is written, and not committed",
    "update_committed": "an update is committed, and not confirmed to Telegram",
    "report_published": "a payment's event is published, its update not marked, neither committed",
    "handler_remembered": "the inbox rows of a batch are written, and the batch is not handled",
    "handler_done": "a batch is handled, and not committed",
    "handler_committed": "a batch is committed, and not acknowledged",
    "relay_published": "the broker acknowledged events, and their removal is not committed",
    "command_done": "a command is executed, and not committed",
    "command_committed": "a command is committed, and not answered",
    "panel_written": "a node was written to, and that is not recorded",
    "access_recorded": "the state of a node is recorded, and not committed",
    "invoice_asked": "a provider was asked to open an invoice, and its answer is not recorded",
    "payment_read": "a payment was read back from its provider, and is not booked",
    "refund_asked": "an acquirer was asked to return money, and its answer is not recorded",
    "stars_returned": "Telegram was asked to return Stars, and its answer is not recorded",
    "receipt_asked": "a receipt for the tax office was asked for, and that is not recorded",
    "message_sent": "a message was sent, and is not marked",
    "screen_shown": "a screen was shown, and its update is not marked",
    "checkout_answered": "a pre-checkout was answered, and is not marked",
}
"""Every step, with the state of the process there. Chaos rows 1-6 go through all of them."""

_step, _who, _nth = (os.environ.get("TURNPIKE_FAILPOINT") or "never - 1").split()
_reached = 0


def failpoint(step: str, who: str = "-") -> None:
    """End the process here if `TURNPIKE_FAILPOINT` names this step."""
    if step == _step and _who in ("-", who):
        global _reached  # A process ends once.
        _reached += 1
        if _reached >= int(_nth):
            os._exit(STATUS)
