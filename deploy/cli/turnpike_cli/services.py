"""Parameters of several commands: the name of a service, and texts that are not blank.

A person reads and types `vpn-provisioner`, subjects say `vpn`.
"""

from typing import Any

import click

from shared.contracts.owners import SERVICE_NAMES

OWNER_OF = {name: owner for owner, name in SERVICE_NAMES.items()}


class ServiceName(click.Choice[str]):
    """A parameter that is typed as the name of a service. Its value is the owner's token."""

    def __init__(self) -> None:
        super().__init__(sorted(OWNER_OF))

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        return OWNER_OF[super().convert(value, param, ctx)]


SERVICE_NAME = ServiceName()

service_argument = click.argument("service", type=SERVICE_NAME, metavar="SERVICE")


class Named(click.ParamType[str]):
    """A text that names something or says why. Spaces around it are dropped."""

    name = "text"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        named = str(value).strip()
        if not named:
            self.fail("it is empty.", param, ctx)
        return named


NAMED = Named()
