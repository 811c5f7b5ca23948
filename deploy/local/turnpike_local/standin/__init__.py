"""The common parts of the stand-ins for Telegram, YooKassa and Crypto Pay.

Each stand-in keeps what is its own: the refusals, the shapes, the pages and the times.
"""

from .app import Parts, StandIn

__all__ = ["Parts", "StandIn"]
