"""The windows on VPN panels: one protocol, one file for each kind of panel."""
