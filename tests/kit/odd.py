"""Odd input that JSON and people allow: each is refused or shown, never a stuck screen."""

LONE_SURROGATE = "\ud800"
NUL = "\x00"

TEXTS = {
    "a lone surrogate": LONE_SURROGATE,
    "a surrogate in a word": f"A{LONE_SURROGATE}n\udc00n",
    "nul": NUL,
    "markup": "<b>&amp;</i>",
    "a direction mark": "\u202e\u200b",
    "very long": "x" * 9_000,
    "empty": "",
    "fluent": "{ $plan } { -term }",
}

DEPTH = 5_000
DEEP = "[" * DEPTH + "]" * DEPTH
"""JSON text; Python's own parser refuses it."""
