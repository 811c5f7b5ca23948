"""Values and decisions of bot-gateway: people and raw updates. No I/O."""
