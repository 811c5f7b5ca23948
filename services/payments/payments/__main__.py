"""`python -m payments` serves until it is told to stop."""

from payments.app import build
from shared.service import run

if __name__ == "__main__":
    run(build)
