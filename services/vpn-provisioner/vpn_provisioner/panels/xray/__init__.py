"""A plain Xray node: its gRPC API keeps users in memory only and knows no limits."""
