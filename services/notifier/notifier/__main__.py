"""`python -m notifier` serves until it is told to stop."""

from notifier.app import build
from shared.service import run

if __name__ == "__main__":
    run(build)
