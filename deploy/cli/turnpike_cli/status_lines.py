"""The status of a shop as lines on a screen, and as JSON."""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import click

from shared.contracts.operations import LastAudit, ReplicaStatus
from shared.contracts.owners import SERVICE_NAMES
from shared.contracts.streams import SUBSCRIPTIONS
from shared.contracts.vpn import DeadJobs
from turnpike_cli.formatting import moment, printable, table, wrapped
from turnpike_cli.local_shop import LocalShop
from turnpike_cli.worker_lines import worker_lines

HEAD = ("SERVICE", "STATE", "VERSION", "PENDING", "RETRIES", "DEAD", "LAST AUDIT (UTC)")
SERVICE_OF = {one.handler: SERVICE_NAMES[one.service] for one in SUBSCRIPTIONS}
PROVISIONER = "vpn"
"""The owner whose dead access jobs are listed among the dead letters."""


@dataclass(frozen=True)
class Status:
    """What was learned about a shop. A field without an answer is None."""

    nats_version: str
    nats_address: str
    replicas: Mapping[str, list[ReplicaStatus]]
    """By the owner; none where the service does not answer."""
    lag: Mapping[str, int] | None
    """By the handler: how many events it has yet to acknowledge, -1 for a missing durable."""
    dead_jobs: DeadJobs | None
    local: LocalShop | None

    @property
    def unresponsive(self) -> list[str]:
        return [owner for owner, replicas in self.replicas.items() if not replicas]

    @property
    def ready(self) -> bool:
        return all(
            replicas and all(one.not_ready is None for one in replicas)
            for replicas in self.replicas.values()
        )


def status_lines(status: Status) -> list[str]:
    """What is wrong is red on a terminal."""
    lines = [*_servers(status), "", *_services(status), "", *_handlers(status)]
    lines += ["", *worker_lines(status.replicas)]
    if status.local is not None:
        lines += ["", *_local(status.local)]
    return lines


def _servers(status: Status) -> Iterator[str]:
    yield f"NATS {status.nats_version} at {status.nats_address}"
    users: dict[str, list[str]] = {}
    for owner, replicas in status.replicas.items():
        for one in (replica.database for replica in replicas):
            if one is not None:
                names = users.setdefault(f"PostgreSQL {one.version} at {one.address}", [])
                if SERVICE_NAMES[owner] not in names:
                    names.append(SERVICE_NAMES[owner])
    for server, names in users.items():
        everyone = len(names) == len(status.replicas)
        yield from wrapped("", printable(server + ("" if everyone else f": {', '.join(names)}")))


def _services(status: Status) -> Iterator[str]:
    """A line for each replica, and below them the reasons of those that are not ready."""
    rows, wrong, reasons = [], [], []
    for owner, replicas in status.replicas.items():
        for number, one in enumerate(replicas, start=1):
            several = len(replicas) > 1
            name = SERVICE_NAMES[owner] + (f" {number}/{len(replicas)}" if several else "")
            rows.append((name, *_replica_cells(owner, one, status.dead_jobs)))
            wrong.append(one.not_ready is not None)
            if one.not_ready is not None:
                where = f" ({one.replica})" if several else ""
                reasons.append(f"{name}{where}: {one.not_ready}.")
        if not replicas:
            rows.append((SERVICE_NAMES[owner], "no answer", *("",) * (len(HEAD) - 2)))
            wrong.append(True)
    head, *lines = table(HEAD, rows)
    yield head
    for line, is_wrong in zip(lines, wrong, strict=True):
        yield _red(line) if is_wrong else line
    for reason in reasons:
        yield from (_red(line) for line in wrapped("", printable(reason)))


def _red(line: str) -> str:
    return click.style(line, fg="red")


def _replica_cells(owner: str, one: ReplicaStatus, jobs: DeadJobs | None) -> tuple[str, ...]:
    known = one.database
    counts = ("?", "?", "?")
    if known is not None:
        dead = _dead(owner, known.dead_letters, jobs)
        age = f", {known.oldest_s:.0f} s old" if known.pending else ""
        counts = (f"{known.pending}{age}", str(known.waiting), dead)
    ready = "ready" if one.not_ready is None else "not ready"
    return (ready, one.version, *counts, _audit(one.last_audit))


def _dead(owner: str, dead_letters: int, jobs: DeadJobs | None) -> str:
    """Dead access jobs count as well, as in `turnpike dead-letters list`."""
    if owner != PROVISIONER or jobs is None:
        return str(dead_letters)
    return f"{dead_letters + len(jobs.jobs)}{'+' if jobs.more else ''}"


def _audit(last: LastAudit | None) -> str:
    if last is None:
        return "none since its start"
    found = f"{last.violations} in {', '.join(last.invariants)}" if last.violations else "all hold"
    return f"{moment(last.at)[:16]}, {found}"


def _handlers(status: Status) -> Iterator[str]:
    if status.lag is None:
        yield _red("Consumer lag is unknown: JetStream does not answer.")
        return
    rows = [
        (SERVICE_OF[handler], handler, str(lag) if lag >= 0 else "its durable consumer is missing")
        for handler, lag in status.lag.items()
    ]
    head, *lines = table(("SERVICE", "HANDLER", "EVENTS TO ACKNOWLEDGE"), rows)
    yield head
    for line, lag in zip(lines, status.lag.values(), strict=True):
        yield _red(line) if lag < 0 else line


def _local(shop: LocalShop) -> Iterator[str]:
    yield f"This shop is process {shop.process} and keeps its state and logs in {shop.folder}"
    rows = [(one.name, one.log, one.address) for one in shop.parts]
    yield from table(("PART", "LOG", "ADDRESS"), rows)
    yield ""
    yield from table(("SERVICE", "DSN"), list(shop.dsns.items()))
    yield from wrapped(
        "", f"The passwords of the DSNs are in {shop.passwords}: set PGPASSFILE to this file."
    )


def as_dict(status: Status) -> dict[str, Any]:
    return {
        "ready": status.ready,
        "nats": {"version": status.nats_version, "address": status.nats_address},
        "services": [
            {
                "service": SERVICE_NAMES[owner],
                "replicas": [one.model_dump(mode="json") for one in replicas],
            }
            for owner, replicas in status.replicas.items()
        ],
        "handlers": None
        if status.lag is None
        else [
            {"service": SERVICE_OF[handler], "handler": handler, "lag": lag if lag >= 0 else None}
            for handler, lag in status.lag.items()
        ],
        "dead_access_jobs": None
        if status.dead_jobs is None
        else {"jobs": len(status.dead_jobs.jobs), "more": status.dead_jobs.more},
        "unresponsive": [SERVICE_NAMES[owner] for owner in status.unresponsive],
        "local": None if status.local is None else _local_as_dict(status.local),
    }


def _local_as_dict(shop: LocalShop) -> dict[str, Any]:
    return {
        "folder": str(shop.folder),
        "process": shop.process,
        "parts": [asdict(part) for part in shop.parts],
        "dsns": dict(shop.dsns),
        "passwords": str(shop.passwords),
    }
