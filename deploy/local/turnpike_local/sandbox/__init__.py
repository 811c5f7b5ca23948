"""A stand-in for Telegram that keeps state, refuses what Telegram refuses, and shows its chats in the browser."""

from .app import Sandbox
from .client import SandboxClient
from .limits import Limits

__all__ = ["Limits", "Sandbox", "SandboxClient"]
