"""What operators ask on the command line, of the whole shop: the story of a payment, what is stuck, what is dead."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import asyncpg
import pytest

from shared.bus import Bus
from shared.inspection import AskDeadLetters, AskPayment, DeadLetters, Payment
from tests.kit.access import until
from tests.kit.commands import turnpike
from turnpike_cli.asking import opened_bus
from turnpike_cli.audit import audit
from turnpike_local.sandbox.client import PersonClient, SandboxClient
from turnpike_local.stack import Stack
from turnpike_local.story import keys_in, started

HANG_S = 60.0
WIDTH, HEIGHT = 100, 40


class Shop:
    """The whole shop, people in it, and an operator beside it who knows nothing but where NATS is."""

    def __init__(self, stack: Stack, sandbox: SandboxClient, bus: Bus) -> None:
        self.stack = stack
        self.sandbox = sandbox
        self.bus = bus

    async def turnpike(self, *arguments: str) -> tuple[int, str, str]:
        return await turnpike(*arguments, TURNPIKE_NATS_URL=self.stack.broker.url)

    async def why(self, named: str) -> dict[str, Any]:
        status, out, err = await self.turnpike("why", named, "--json")
        assert status in (0, 2), err
        told: dict[str, Any] = json.loads(out)
        return told

    async def invited(self) -> tuple[PersonClient, PersonClient]:
        """Somebody, and a friend who came by his link."""
        alice = await self.sandbox.new_person("Alice", language="en")
        await started(alice)
        await alice.press("Invite")
        link = (await alice.hears("start=r_")).text
        bob = await self.sandbox.new_person("Bob", language="en")
        await started(bob, f"/start {link[link.index('start=') + len('start=') :].split()[0]}")
        return alice, bob

    async def pays(self, person: PersonClient) -> str:
        """Buys Basic for a month; answers the charge."""
        before = {payment["charge"] for payment in await self.sandbox.payments()}
        for button in ("Buy", "Basic", "1 month", "Stars"):
            await person.press(button)
        await person.button("Pay")
        assert (await person.pay()).paid
        (charge,) = {payment["charge"] for payment in await self.sandbox.payments()} - before
        return str(charge)

    async def gets_key(self, person: PersonClient) -> None:
        await person.wait_for(lambda chat: bool(keys_in(chat)), timeout_s=HANG_S, what="the key")

    async def break_by_hand(self, sql: str) -> None:
        """As a superuser, past every service."""
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


async def test_one_payment_is_told_by_every_owner_and_ends_in_one_sentence(shop: Shop) -> None:
    alice, bob = await shop.invited()
    charge = await shop.pays(bob)
    await shop.gets_key(bob)
    await alice.hears("14.90", timeout_s=HANG_S)

    status, out, err = await shop.turnpike("why", charge)
    assert (status, err) == (0, "")
    assert max(len(line) for line in out.splitlines()) <= WIDTH
    assert len(out.splitlines()) <= HEIGHT, out
    last = " ".join(out.rpartition("\n\n")[2].split())
    assert last.startswith("paid with 99 XTR, rewarded 14.90 RUB (10 %), access until 20")
    assert last.endswith(", key sent.")
    for said in (
        "update ",
        "reported 99 XTR",
        "order ",
        "invoice ",
        "receipt ",
        "transfer ",
        "149.00 RUB",
        "reward 14.90",
    ):
        assert said in out, said
    for handler in ("payments_confirms_reported", "referrals_rewards_confirmed", "vpn_grants_confirmed"):
        assert handler in out
    assert "done by payments_confirms_reported" in " ".join(out.split())
    assert "not heard" not in out
    _, with_entries, _ = await shop.turnpike("why", charge, "--entries")
    assert "-149.00 RUB  wallet of" in with_entries
    assert "wallet of" not in out

    told = await shop.why(charge)
    assert told["stuck"] == []
    assert (await shop.why(str(bob.id)))["payment"] == told["payment"]
    assert not [secret for secret in ("vless", "Bob", "Alice", str(bob.id)) if secret in json.dumps(told)]


async def test_the_audit_asks_every_owner_and_sees_what_is_broken(shop: Shop) -> None:
    """Status 0 while everything holds, 1 with the place of what does not."""

    async def rests() -> bool:
        return not any(one.finding.violations for one in await audit(shop.bus))

    await until(rests, within_s=HANG_S)
    status, out, err = await shop.turnpike("audit", "--hours", "25")
    assert (status, err) == (0, "")
    assert max(len(line) for line in out.splitlines()) <= WIDTH
    asked = {line.split()[0] for line in out.splitlines() if line.startswith("I")}
    assert asked == {"I1", "I2", "I3", "I4", "I5", "I6", "I7", "I8", "I9", "I10", "I12", "I13"}
    assert out.rstrip().endswith("truths hold.")

    await shop.break_by_hand("update notifier.deliveries set kind = 'lost_' || kind where kind = 'access_ready'")
    status, out, err = await shop.turnpike("audit", "--in-time", "0", "--json")
    await shop.break_by_hand("update notifier.deliveries set kind = 'access_ready' where kind = 'lost_access_ready'")
    assert status == 1
    broken = [one for one in json.loads(out)["findings"] if one["violations"]]
    assert [(one["invariant"], one["owner"]) for one in broken] == [("I6", "all")]
    assert broken[0]["examples"][0].startswith("notifier has nothing of vpn's granted ")


async def test_a_payment_that_nobody_knows_is_one_sentence(shop: Shop) -> None:
    for named in ("no such charge", "77777"):
        assert await shop.turnpike("why", named) == (1, "", f"Nobody has heard of a payment {named}.\n")


async def test_a_payment_waits_for_a_service_that_does_not_run(shop: Shop) -> None:
    """P-01, R-26: the story says who has not heard of it, and goes on once he is there again."""
    bob = await shop.sandbox.new_person("Bea", language="en")
    await started(bob)
    await shop.stack.services["vpn"].stop()
    charge = await shop.pays(bob)

    async def booked() -> bool:
        return isinstance(await shop.bus.ask(AskPayment(named=charge)), Payment)

    await until(booked, within_s=HANG_S)
    status, out, _ = await shop.turnpike("why", charge)
    assert status == 2
    assert "stuck at vpn-provisioner: it does not answer; do: see that vpn-provisioner runs." in " ".join(out.split())
    assert "vpn_grants_confirmed does not answer" in out

    status, out, err = await shop.turnpike("audit", "--in-time", "0")
    assert (status, err) == (2, "vpn-provisioner does not answer.\n")
    assert "every transfer balances to zero per currency" in out

    await shop.stack.services["vpn"].start()
    await shop.gets_key(bob)
    assert "key sent" in (await shop.why(charge))["verdict"]


async def test_a_letter_is_found_from_its_payment_and_replayed_once_its_cause_is_gone(shop: Shop) -> None:
    """R-26, M-08: the charge is known by bot-gateway alone; the last line says what to type, and that helps."""
    bob = await shop.sandbox.new_person("Bo", language="en")
    await started(bob)
    await shop.break_by_hand(
        "alter table payments.receipts add constraint broken check (amount_minor > 1000) not valid"
    )
    charge = await shop.pays(bob)

    async def buried() -> bool:
        answer = await shop.bus.ask(AskDeadLetters.of("payments")())
        return isinstance(answer, DeadLetters) and bool(answer.letters)

    await until(buried, within_s=HANG_S)
    told = await shop.why(charge)
    assert told["payment"] is None
    [stuck] = told["stuck"]
    assert stuck["where"] == "payments"
    assert "payments_confirms_reported buried bot.payment.reported (CheckViolationError" in stuck["why"]
    command = stuck["do"].removeprefix("mend the cause, then turnpike ").split()
    assert command[:3] == ["dead", "replay", "payments"]

    assert (await shop.turnpike(*command))[0] == 1
    await shop.break_by_hand("alter table payments.receipts drop constraint broken")
    assert (await shop.turnpike(*command)) == (0, f"payments {command[-1]}: replayed\n", "")
    await shop.gets_key(bob)
    assert (await shop.why(charge))["verdict"].startswith("paid with 99 XTR, no reward (no_partner), access until")
