"""`python -m payments` serves until it is told to stop."""

from shared.service import run

from payments.app import build

if __name__ == "__main__":
    run(build)
