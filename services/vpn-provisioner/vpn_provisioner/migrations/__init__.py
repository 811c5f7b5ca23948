"""The SQL migrations of the schema `vpn`."""
