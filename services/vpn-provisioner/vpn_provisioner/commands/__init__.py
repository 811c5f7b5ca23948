"""Handlers of commands, one file for each capability."""
