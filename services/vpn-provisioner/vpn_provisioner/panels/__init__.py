"""Clients of VPN panels: one protocol, and one package for each kind of panel."""
