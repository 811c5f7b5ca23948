"""`python -m payments` runs the service until SIGTERM or SIGINT."""

from payments.app import build
from shared.service import run

if __name__ == "__main__":
    run(build)
