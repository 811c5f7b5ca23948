"""A substitute for Telegram: it has state, the same refusals, and chats in the browser."""

from .app import Sandbox
from .client import SandboxClient
from .limits import Limits

__all__ = ["Limits", "Sandbox", "SandboxClient"]
