"""Runs vpn-provisioner with the settings of its environment."""

from shared.service import run
from vpn_provisioner.app import build

if __name__ == "__main__":
    run(build)
