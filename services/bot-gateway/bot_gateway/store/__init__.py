"""SQL of bot-gateway: people, updates, payment reports, checkout holds and token buckets."""
