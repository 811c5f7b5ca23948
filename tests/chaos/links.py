"""Row 20: the links of the services to NATS and PostgreSQL."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

from shared.contracts.owners import OWNERS
from shared.platform.roles import role
from tests.chaos.shop import Shop
from tests.chaos.trial import Trial
from tests.kit.proxy import Cut, Proxy
from turnpike_local.ports import LOOPBACK

Link = tuple[str, str]
Links = dict[Link, Proxy]

CUT_S, CUT_SHORT_S = 60.0, 5.0
WAVES_AT_ONCE = 3
PER_S = 4.0
# The distance in the list between the two links of a wave: no link is in two waves at once.
APART = 5


async def links_cut(trial: Trial) -> None:
    """20 (W-07): each link is silent for a while and severed for a while; then the shop drains.

    Links are cut in waves of two, of which three overlap. The short form cuts each link once:
    half of them are silent, the other half severed.
    """
    shop = trial.shop
    async with through_proxies(shop) as links, shop.supervised():
        names = list(links)
        waves = [(names[place], names[(place + APART) % len(names)]) for place in range(len(names))]
        if trial.short:
            waves = waves[:APART]
        cut_s = CUT_SHORT_S if trial.short else CUT_S
        every_s = cut_s / WAVES_AT_ONCE
        seconds = every_s * (len(waves) - 1) + cut_s
        purchases = await trial.load.place_orders(trial.size(int(PER_S * seconds), 150))
        paying = asyncio.create_task(trial.pay(purchases, len(purchases) / seconds))

        carried_before: dict[Link, int] = {}

        async def cut(wave: int) -> None:
            silent, severed = waves[wave]
            await asyncio.sleep(every_s * wave)
            links[silent].cut("silent")
            links[severed].cut("severed")
            if ("notifier", "PostgreSQL") in (silent, severed):
                trial.notifier_interrupted()
            trial.report(f"{silent} is silent, {severed} is severed")
            await asyncio.sleep(cut_s)
            for name in (silent, severed):
                carried_before[name] = links[name].carried_bytes
                links[name].mend()
            _expect_in_use(trial, links, silent, "silent")
            _expect_in_use(trial, links, severed, "severed")

        await asyncio.gather(paying, *(cut(wave) for wave in range(len(waves))))
        names_of_links = ", ".join(f"{owner}-{kind}" for owner, kind in links)
        times = f"{len(waves)} times two of {len(links)} links"
        trial.faults.append(f"{times} cut for {cut_s:g} s ({names_of_links})")
        met = sum(link.met.total() for link in links.values())
        trial.figures.append(f"{met} connections met a cut")
        trial.expect(f"no service dies of it: {shop.deaths}", not shop.deaths)
        # Before the services start again without proxies, which would hide a stuck one.
        await trial.expect_quiescent("the shop after the cuts", 120)
        await trial.expect_no_loss("when all links are whole again")
        for name, link in links.items():
            before, after = carried_before[name], link.carried_bytes
            trial.expect(
                f"{name} carries before its cut and after it: {before} and {after} bytes",
                0 < before < after,
            )


def _expect_in_use(trial: Trial, links: Links, name: Link, how: Cut) -> None:
    """A cut that met no connection would mean that the service uses another way."""
    trial.expect(f"{name} was in use when it was {how}", links[name].met[how] > 0)


@asynccontextmanager
async def through_proxies(shop: Shop) -> AsyncIterator[Links]:
    """Restart every service with its own proxies to NATS and PostgreSQL; afterwards without."""
    async with AsyncExitStack() as proxies:
        links: Links = {}
        for owner in OWNERS:
            for kind, port in (("NATS", shop.broker.port), ("PostgreSQL", shop.postgres.port)):
                links[owner, kind] = await proxies.enter_async_context(Proxy(port))
        await asyncio.gather(*(_start(shop, owner, links) for owner in OWNERS))
        try:
            yield links
        finally:
            await asyncio.gather(*(shop.start(owner) for owner in OWNERS))


async def _start(shop: Shop, owner: str, links: Links) -> None:
    nats = _through(links[owner, "NATS"], shop.broker.url)
    dsn = _through(links[owner, "PostgreSQL"], shop.postgres.dsn(role(owner, "app")))
    await shop.start(owner, **{"TURNPIKE_NATS_URL": nats, f"TURNPIKE_{owner.upper()}_DSN": dsn})


def _through(link: Proxy, url: str) -> str:
    """The same address with the link's port."""
    server, port = f"{LOOPBACK}:{link.target_port}", f"{LOOPBACK}:{link.port}"
    assert url.count(server) == 1, "in another form of address the service would pass by the link"
    return url.replace(server, port)
