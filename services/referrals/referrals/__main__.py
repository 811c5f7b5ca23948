"""`python -m referrals` serves until SIGTERM."""

from shared.service import run

from referrals.app import build

if __name__ == "__main__":
    run(build)
