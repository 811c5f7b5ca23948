"""The entry point for chats. The first import of aiogram here is the fast one."""

from bot_gateway import lazy_aiogram

lazy_aiogram.install()
