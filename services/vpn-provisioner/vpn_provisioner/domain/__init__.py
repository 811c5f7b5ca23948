"""Values and decisions. Nothing here waits, reads a clock, draws at random, logs or runs SQL."""
