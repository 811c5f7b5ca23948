"""Crypto Pay (@CryptoBot): prices in rubles, paid in an asset of the payer's choice."""
