"""Loops of bot-gateway: polling, the three lanes of updates, and the menu of commands."""
