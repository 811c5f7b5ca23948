"""Before anything here imports aiogram, it is imported the quick way."""

from bot_gateway import lazy_aiogram

lazy_aiogram.install()
