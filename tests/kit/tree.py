"""The files of the project that people wrote."""

import os
from collections.abc import Iterator
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]

# Hidden files and folders that are part of the project. Others belong to tools.
PUBLIC = {
    *(".ci", ".github", ".devcontainer", ".env.example", ".gitignore", ".editorconfig"),
    *(".dockerignore", ".pre-commit-config.yaml"),
}
# What tools leave behind, and pictures.
MADE = {"__pycache__", "screenshots"}
PICTURES = (".png", ".gif", ".pyc")


@cache
def written() -> tuple[Path, ...]:
    """Every file that people wrote, in order. Hidden folders of tools are not entered."""
    return tuple(sorted(_walk()))


def _walk() -> Iterator[Path]:
    for folder, folders, names in os.walk(ROOT):
        folders[:] = [one for one in folders if _is_ours(one)]
        for name in names:
            if _is_ours(name) and not name.endswith(PICTURES):
                yield Path(folder, name)


def _is_ours(name: str) -> bool:
    return name not in MADE and (not name.startswith(".") or name in PUBLIC)


@cache
def texts() -> dict[str, str]:
    """Their texts, by their path in the project."""
    return {str(path.relative_to(ROOT)): path.read_text(errors="replace") for path in written()}
