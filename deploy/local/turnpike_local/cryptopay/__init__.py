"""A substitute for Crypto Pay (@CryptoBot): it has state, its refusals, and a page to pay on."""

from .app import CryptoPay
from .client import CryptoPayClient
from .limits import Limits

__all__ = ["CryptoPay", "CryptoPayClient", "Limits"]
