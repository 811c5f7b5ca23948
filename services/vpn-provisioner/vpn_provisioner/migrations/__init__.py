"""The shape of vpn-provisioner's tables, step by step."""
