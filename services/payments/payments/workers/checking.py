"""Each provider is asked for our account once, at the start: its sentences are for an operator."""

import asyncio

import structlog

from payments import metrics
from payments.providers.protocol import Provider
from shared.platform.loops import unless

log = structlog.get_logger()


async def report_findings(provider: Provider, stopping: asyncio.Event) -> None:
    """Beside the other loops: a provider that does not answer keeps nothing from starting."""
    try:
        findings = await unless(stopping, provider.check()) or ()
    except Exception as error:  # A fault of the client is no reason to end the process.
        log.error("provider was not checked", acquirer=provider.name, error=type(error).__name__)
        findings = ()
    for finding in findings:
        report = log.error if finding.blocks else log.warning
        report("provider", acquirer=provider.name, finding=finding.sentence)
    for blocks in (True, False):
        count = sum(finding.blocks is blocks for finding in findings)
        metrics.PROVIDER_FINDINGS.labels(provider.name, str(blocks).lower()).set(count)
    await stopping.wait()
