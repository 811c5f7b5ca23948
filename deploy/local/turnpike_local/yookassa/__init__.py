"""A substitute for YooKassa: it has state, the same refusals, notices and a pay page."""

from .app import Yookassa
from .client import ControlError, YookassaControl
from .shop import Limits, Shop

__all__ = ["ControlError", "Limits", "Shop", "Yookassa", "YookassaControl"]
