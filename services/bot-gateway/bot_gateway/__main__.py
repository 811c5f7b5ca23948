"""`python -m bot_gateway` serves until SIGTERM."""

from bot_gateway.app import build
from shared.service import run

if __name__ == "__main__":
    run(build)
