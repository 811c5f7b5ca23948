"""`python -m notifier` serves until SIGTERM."""

from notifier.app import build
from shared.service import run

if __name__ == "__main__":
    run(build)
