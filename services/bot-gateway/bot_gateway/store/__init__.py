"""The cellar of bot-gateway: people, the intake of updates, yeses to charges, and token buckets."""
