"""Where a process can be made to die, so that a proof can show what is left then.

`TURNPIKE_CRASH_AT="<step> <who> <nth>"` ends this process, as `kill -9` would, at the nth passing of one step; "-" is
anybody. Without it a step costs one comparison.
"""

import os

STATUS = 86
"""The exit status of a process that died here: no other death looks like it."""

STEPS = {
    "update_written": "an update is written, and not committed",
    "update_committed": "an update is committed, and Telegram does not know that it was received",
    "report_told": "a payment's fact is told, its update not marked, and neither committed",
    "handler_remembered": "a batch is remembered as heard, and not handled",
    "handler_done": "a batch is handled, and not committed",
    "handler_committed": "a batch is committed, and not acknowledged",
    "relay_published": "facts are acknowledged by the broker, and that they left untold is not committed",
    "command_done": "a command is obeyed, and not committed",
    "command_committed": "a command is committed, and not answered",
    "panel_written": "a node was written to, and that is not recorded",
    "access_recorded": "what a node holds is recorded, and not committed",
    "message_sent": "a message was sent, and is not marked",
    "screen_shown": "a screen was shown, and its update is not marked",
    "checkout_answered": "a pre-checkout was answered, and is not marked",
}
"""Every step, by what is true there. The chaos rows 1-6 go through all of them."""

_step, _who, _nth = (os.environ.get("TURNPIKE_CRASH_AT") or "never - 1").split()
_passed = 0


def passing(step: str, who: str = "-") -> None:
    """This process is at `step` of `who` (a handler, an owner, a command's topic): it may have to die of that."""
    if step == _step and _who in ("-", who):
        global _passed  # A process dies once.
        _passed += 1
        if _passed >= int(_nth):
            os._exit(STATUS)
