"""Many people pay within seconds: from Telegram's question to the bot's answer.

getUpdates ─▶ bot ─▶ payments ─▶ bot: the hold ─▶ answerPreCheckoutQuery
"""

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from tests.load.bot_api import BotApi
from tests.load.pipeline import evenly, percentile
from tests.load.scenarios import UNPACED
from tests.load.seed import Sale
from tests.load.testbed import Testbed

TELEGRAM_WAITS_S = 10.0
POLL_S = 0.05


@dataclass(frozen=True)
class Answers:
    """The answers that came before Telegram gave up. A missing one counts as its ten seconds."""

    asked: int
    approved: int
    refused: int
    latencies_ms: tuple[float, ...]

    @property
    def approved_percent(self) -> float:
        return 100 * self.approved / self.asked

    def percentile_ms(self, percent: float) -> float:
        return percentile(self.latencies_ms, percent)


async def start_checkouts(testbed: Testbed, api: BotApi) -> None:
    """The two services in question."""
    for name, package in (("payments", "payments"), ("bot", "bot_gateway")):
        await testbed.run(name, package, settings=api.settings | UNPACED)


async def check_out(api: BotApi, sold: Sequence[Sale], per_s: float) -> Answers:
    """Pay sheets open evenly, so many a second, each of another person."""
    due_at = {}
    async for sale, moment in evenly(sold, per_s):
        due_at[api.check_out(sale)] = moment
    gives_up_at = time.time() + TELEGRAM_WAITS_S
    while due_at.keys() - api.answers.keys() and time.time() < gives_up_at:
        await asyncio.sleep(POLL_S)
    in_time = {
        id_: answer
        for id_, at in due_at.items()
        if (answer := api.answers.get(id_)) and answer.at < at + TELEGRAM_WAITS_S
    }
    approved = sum(answer.ok for answer in in_time.values())
    latencies = tuple(
        (in_time[id_].at - at if id_ in in_time else TELEGRAM_WAITS_S) * 1000
        for id_, at in due_at.items()
    )
    return Answers(len(sold), approved, len(in_time) - approved, latencies)


@contextmanager
def busy(loops: int) -> Iterator[None]:
    """So many processes that spin beside the shop, with the niceness of this one."""
    spinning = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(loops)]
    try:
        yield
    finally:
        for process in spinning:
            process.kill()
            process.wait()
