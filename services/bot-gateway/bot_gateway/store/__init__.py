"""The cellar of bot-gateway: people, the intake of updates, and token buckets."""
