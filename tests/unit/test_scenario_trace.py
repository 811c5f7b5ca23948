"""The scenario's trace: it is read again until its last spans came."""

from typing import Any, cast

from shared.messaging.rpc import Bus
from turnpike_local.sandbox.client import Json, SandboxClient
from turnpike_local.scenario import LAST_MESSAGES, TRACED, Scenario, _check_trace


def span(service: str, message: str = "") -> Json:
    attributes = {"message": message} if message else {}
    return {"service": service, "trace_id": "order", "attributes": attributes}


class SandboxWithLateSpans:
    """One more span at each read, the messages' at last."""

    def __init__(self) -> None:
        self.exported = [
            *(span(service) for service in sorted(TRACED)),
            *(span("notifier", message) for message in sorted(LAST_MESSAGES)),
        ]
        self.reads = 0

    async def spans(self, about: str) -> list[Json]:
        self.reads += 1
        return self.exported[: self.reads]


async def test_the_trace_waits_for_the_last_messages() -> None:
    """W-57: all services are there before the span of the last message was exported."""
    scenario = Scenario(order="order")
    sandbox = SandboxWithLateSpans()
    await _check_trace(scenario, cast(SandboxClient, sandbox), cast(Bus, cast(Any, None)))
    messages = {one["attributes"].get("message") for one in scenario.spans}
    assert messages >= LAST_MESSAGES
