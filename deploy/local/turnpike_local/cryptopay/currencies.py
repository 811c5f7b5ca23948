"""The assets and fiat currencies of Crypto Pay, with made-up rates to begin with."""

from dataclasses import dataclass
from decimal import Decimal

from .amounts import PLACES

FIAT_PLACES = 2


@dataclass(frozen=True)
class Asset:
    """A cryptocurrency; `usd` is the price of one at first."""

    code: str
    name: str
    decimals: int
    usd: Decimal
    url: str
    is_stablecoin: bool = False
    is_blockchain: bool = True

    @property
    def places(self) -> int:
        """Decimals of an amount. The API takes no more than eight."""
        return min(self.decimals, PLACES)


@dataclass(frozen=True)
class Fiat:
    """A fiat currency; `per_usd` is the number of it that one USD buys."""

    code: str
    name: str
    per_usd: Decimal


def _token(code: str, name: str, decimals: int, usd: str, url: str, *, stable: bool) -> Asset:
    return Asset(code, name, decimals, Decimal(usd), url, stable, is_blockchain=False)


ASSETS = {
    asset.code: asset
    for asset in (
        _token("USDT", "Tether", 18, "1.0005", "https://tether.to/", stable=True),
        Asset("TON", "Toncoin", 9, Decimal("3.12"), "https://ton.org/"),
        Asset("BTC", "Bitcoin", 8, Decimal(96_500), "https://bitcoin.org/"),
        Asset("ETH", "Ethereum", 18, Decimal(3_150), "https://ethereum.org/"),
        Asset("LTC", "Litecoin", 8, Decimal("92.4"), "https://litecoin.org/"),
        Asset("BNB", "Binance Coin", 18, Decimal(905), "https://binance.org/"),
        Asset("TRX", "TRON", 6, Decimal("0.284"), "https://tron.network/"),
        _token("USDC", "USD Coin", 18, "0.9998", "https://www.circle.com/usdc/", stable=True),
        Asset("SOL", "Solana", 9, Decimal("141.5"), "https://solana.com/"),
        _token("XAUT", "Tether Gold", 6, "4070", "https://gold.tether.to/", stable=False),
        _token("SEND", "Send", 9, "0.013", "https://send.tg/", stable=False),
    )
}

FIATS = {
    code: Fiat(code, name, Decimal(per_usd))
    for code, name, per_usd in (
        ("USD", "United States dollar", "1"),
        ("EUR", "Euro", "0.86"),
        ("RUB", "Russian ruble", "80.25"),
        ("BYN", "Belarusian ruble", "3.4"),
        ("UAH", "Ukrainian hryvnia", "42"),
        ("GBP", "Pound sterling", "0.76"),
        ("CNY", "Renminbi", "7.11"),
        ("KZT", "Kazakhstani tenge", "520"),
        ("UZS", "Uzbekistani sum", "12050"),
        ("GEL", "Georgian lari", "2.7"),
        ("TRY", "Turkish lira", "42.3"),
        ("AMD", "Armenian dram", "382"),
        ("THB", "Thai baht", "32.4"),
        ("INR", "Indian rupee", "88.7"),
        ("BRL", "Brazilian real", "5.3"),
        ("IDR", "Indonesian rupiah", "16700"),
        ("AZN", "Azerbaijani manat", "1.7"),
        ("AED", "United Arab Emirates dirham", "3.6725"),
        ("PLN", "Polish zloty", "3.65"),
        ("ILS", "Israeli new shekel", "3.28"),
    )
}
