"""The commands of operators on the whole shop: `why`, `audit`, `dead-letters` and `status`."""

import json
import os
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from shared.contracts.operations import DeadLetters, DeadLettersQuery
from shared.contracts.owners import SERVICE_NAMES
from shared.contracts.payments import PaymentQuery, PaymentRecord
from shared.contracts.streams import SUBSCRIPTIONS
from shared.messaging.rpc import Bus
from tests.kit.commands import turnpike
from tests.kit.quiescence import Quiescence
from tests.kit.waiting import until
from turnpike_cli.querying import opened_bus
from turnpike_local.sandbox.client import PersonClient, SandboxClient
from turnpike_local.scenario import keys_in, started
from turnpike_local.stack import Stack

HANG_S = 60.0
WIDTH, HEIGHT = 100, 40


class Shop:
    """The whole shop with people in it, and an operator who knows only the URL of NATS."""

    def __init__(self, stack: Stack, sandbox: SandboxClient, bus: Bus) -> None:
        self.stack = stack
        self.sandbox = sandbox
        self.bus = bus

    async def turnpike(self, *arguments: str) -> tuple[int, str, str]:
        return await turnpike(*arguments, TURNPIKE_NATS_URL=self.stack.broker.url)

    async def why(self, named: str) -> dict[str, Any]:
        status, out, err = await self.turnpike("why", named, "--json")
        assert status in (0, 2), err
        answer: dict[str, Any] = json.loads(out)
        return answer

    async def invited(self) -> tuple[PersonClient, PersonClient]:
        """A person, and a friend who came by the link of that person."""
        alice = await self.sandbox.new_person("Alice", language="en")
        await started(alice)
        await alice.press("Invite")
        link = (await alice.receives("start=r_")).text
        bob = await self.sandbox.new_person("Bob", language="en")
        await started(bob, f"/start {link[link.index('start=') + len('start=') :].split()[0]}")
        return alice, bob

    async def pays(self, person: PersonClient) -> str:
        """Buy Basic for a month. Returns the charge."""
        before = {payment["charge"] for payment in await self.sandbox.payments()}
        for button in ("Buy", "Basic", "1 month", "Stars"):
            await person.press(button)
        await person.button("Pay")
        assert (await person.pay()).paid
        (charge,) = {payment["charge"] for payment in await self.sandbox.payments()} - before
        return str(charge)

    async def receives_key(self, person: PersonClient) -> None:
        await person.wait_for(lambda chat: bool(keys_in(chat)), timeout_s=HANG_S, what="the key")

    async def break_by_hand(self, sql: str) -> None:
        """Run SQL as a superuser, behind the services."""
        connection = await asyncpg.connect(self.stack.postgres.dsn())
        try:
            await connection.execute(sql)
        finally:
            await connection.close()


@pytest.fixture(scope="module")
async def shop(servers_dir: Path) -> AsyncIterator[Shop]:
    async with Stack(servers_dir / "operators") as stack:
        assert stack.sandbox is not None
        async with SandboxClient(stack.sandbox.url) as sandbox, opened_bus(stack.broker.url) as bus:
            yield Shop(stack, sandbox, bus)


async def test_a_payment_is_shown_with_one_last_sentence(shop: Shop) -> None:
    alice, bob = await shop.invited()
    charge = await shop.pays(bob)
    await shop.receives_key(bob)
    await alice.receives("14.90", timeout_s=HANG_S)

    status, out, err = await shop.turnpike("why", charge)
    assert (status, err) == (0, "")
    assert max(len(line) for line in out.splitlines()) <= WIDTH
    assert len(out.splitlines()) <= HEIGHT, out
    last = " ".join(out.rpartition("\n\n")[2].split())
    assert last.startswith("paid with 99 XTR, rewarded 14.90 RUB (10 %), access until 20")
    assert last.endswith(", message sent.")
    for words in (
        "update ",
        "reported 99 XTR",
        "order ",
        "invoice ",
        "receipt ",
        "transfer ",
        "149.00 RUB",
        "reward 14.90",
    ):
        assert words in out, words
    for handler in (
        "payments_confirms_reported",
        "referrals_rewards_confirmed",
        "vpn_grants_confirmed",
    ):
        assert handler in out
    assert "done by payments_confirms_reported" in " ".join(out.split())
    assert "not handled" not in out
    _, with_entries, _ = await shop.turnpike("why", charge, "--entries")
    assert "-149.00 RUB  wallet of" in with_entries
    assert "wallet of" not in out

    answer = await shop.why(charge)
    assert answer["problems"] == []
    assert (await shop.why(str(bob.id)))["payment"] == answer["payment"]
    secrets = ("vless", "Bob", "Alice", str(bob.id))
    assert not [secret for secret in secrets if secret in json.dumps(answer)]


async def test_the_audit_finds_a_broken_invariant(shop: Shop) -> None:
    """The status is 0 while every invariant holds, and 1 when one is violated."""
    await until(Quiescence(shop.stack, shop.bus).holds, within_s=HANG_S, every_s=0.1)
    status, out, err = await shop.turnpike("audit", "--hours", "25")
    assert (status, err) == (0, "")
    assert max(len(line) for line in out.splitlines()) <= WIDTH
    checked = {line.split()[0] for line in out.splitlines() if line.startswith("I")}
    assert checked == {
        "I1",
        "I2",
        "I3",
        "I4",
        "I5",
        "I6",
        "I7",
        "I8",
        "I9",
        "I10",
        "I11",
        "I12",
        "I13",
    }
    assert out.rstrip().endswith("checks hold.")

    await shop.break_by_hand(
        "update notifier.deliveries set kind = 'lost_' || kind where kind = 'access_ready'"
    )
    status, out, err = await shop.turnpike("audit", "--in-time", "0", "--json")
    await shop.break_by_hand(
        "update notifier.deliveries set kind = 'access_ready' where kind = 'lost_access_ready'"
    )
    assert status == 1
    broken = [one for one in json.loads(out)["findings"] if one["violations"]]
    assert [(one["invariant"], one["service"]) for one in broken] == [("I6", "all")]
    assert broken[0]["examples"][0].startswith("notifier lacks vpn-provisioner's granted ")


async def test_the_status_says_where_things_are(shop: Shop) -> None:
    """R-43: of the shop on this machine: logs, addresses, DSNs, and the file of the passwords."""
    state = str(shop.stack.state_dir)
    status, out, err = await turnpike("status", TURNPIKE_STATE_DIR=state)
    assert (status, err) == (0, "")
    _, answer, _ = await turnpike("status", "--json", TURNPIKE_STATE_DIR=state)
    local = json.loads(answer)["local"]
    assert local["process"] == os.getpid()
    parts = {one["name"]: one for one in local["parts"]}
    servers = {"postgres", "nats", "xray", "sandbox", "yookassa", "cryptobot"}
    assert parts.keys() >= {*SERVICE_NAMES.values(), *servers}
    for part in parts.values():
        assert (shop.stack.state_dir / part["log"]).is_file(), part
        assert part["address"] in out
    assert parts["payments"]["address"] == shop.stack.urls["payments"]
    handlers = {one["handler"]: one["lag"] for one in json.loads(answer)["handlers"]}
    assert handlers.keys() == {one.handler for one in SUBSCRIPTIONS}
    assert None not in handlers.values()

    dsn = local["dsns"]["vpn-provisioner"]
    assert dsn in out
    passwords = shop.stack.state_dir / "postgres" / "pgpass"
    assert local["passwords"] == str(passwords)
    assert passwords.stat().st_mode & 0o777 == 0o600
    connection = await asyncpg.connect(dsn, passfile=str(passwords))
    assert await connection.fetchval("select current_user") == "vpn_app"
    await connection.close()
    lines = passwords.read_text().splitlines()
    assert not [line for line in lines if line.rpartition(":")[2] in out + answer]


async def test_an_unknown_payment_is_one_sentence(shop: Shop) -> None:
    for named in ("no such charge", "77777"):
        assert await shop.turnpike("why", named) == (
            1,
            "",
            f"No service knows a payment {named}.\n",
        )


async def test_a_payment_waits_for_a_stopped_service(shop: Shop) -> None:
    """P-01, R-26: the command names the stopped service; the payment goes on once it is back."""
    bob = await shop.sandbox.new_person("Bea", language="en")
    await started(bob)
    await shop.stack.services["vpn"].stop()
    charge = await shop.pays(bob)

    async def booked() -> bool:
        return isinstance(await shop.bus.query(PaymentQuery(named=charge)), PaymentRecord)

    await until(booked, within_s=HANG_S)
    status, out, _ = await shop.turnpike("why", charge)
    assert status == 2
    sentence = (
        "stuck at vpn-provisioner: it does not answer; fix: check that vpn-provisioner is running."
    )
    assert sentence in " ".join(out.split())
    assert "vpn_grants_confirmed does not answer" in out

    status, out, err = await shop.turnpike("audit", "--in-time", "0")
    assert (status, err) == (2, "vpn-provisioner does not answer.\n")
    assert "every transfer balances to zero per currency" in out

    await shop.stack.services["vpn"].start()
    await shop.receives_key(bob)
    assert "message sent" in (await shop.why(charge))["verdict"]


async def test_a_dead_letter_is_found_from_its_payment(shop: Shop) -> None:
    """R-26, M-08: only bot-gateway knows the charge. The last line says what to type.

    Once its cause is gone, that command replays the dead letter.
    """
    bob = await shop.sandbox.new_person("Bo", language="en")
    await started(bob)
    await shop.break_by_hand(
        "alter table payments.receipts add constraint broken check (amount_minor > 1000) not valid"
    )
    charge = await shop.pays(bob)

    async def dead_lettered() -> bool:
        answer = await shop.bus.query(DeadLettersQuery.of("payments")())
        return isinstance(answer, DeadLetters) and bool(answer.dead_letters)

    await until(dead_lettered, within_s=HANG_S)
    answer = await shop.why(charge)
    assert answer["payment"] is None
    [problem] = answer["problems"]
    assert problem["where"] == "payments"
    assert (
        "payments_confirms_reported dead-lettered bot.payment.reported (CheckViolationError"
        in problem["why"]
    )
    command = problem["remedy"].removeprefix("fix the cause, then run turnpike ").split()
    assert command[:3] == ["dead-letters", "replay", "payments"]

    command += ["--reason", "the constraint is gone"]
    assert (await shop.turnpike(*command))[0] == 1
    await shop.break_by_hand("alter table payments.receipts drop constraint broken")
    assert (await shop.turnpike(*command)) == (0, f"payments {command[3]}: replayed\n", "")
    await shop.receives_key(bob)
    assert (await shop.why(charge))["verdict"].startswith(
        "paid with 99 XTR, no reward (no_partner), access until"
    )
