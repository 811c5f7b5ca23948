"""The loops that make the nodes hold the people who should be on them."""
