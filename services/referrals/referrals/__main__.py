"""`python -m referrals` serves until SIGTERM."""

from referrals.app import build
from shared.service import run

if __name__ == "__main__":
    run(build)
