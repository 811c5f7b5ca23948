"""Imports aiogram in a third of its time and memory.

aiogram describes the whole Bot API as pydantic models, and pydantic builds a validator for each of
them at import: four seconds of a processor and a hundred megabytes at every start. The models can
be built on first use, but their annotations are then resolved in the modules that define them, and
there aiogram imports most names for type checkers only.

So this module defers the building while aiogram is imported, keeps the names that aiogram passes to
pydantic, and passes them on whenever pydantic builds one of the models later.
"""

import gc
import sys
from typing import Any

from pydantic import BaseModel


def install() -> None:
    """Import aiogram now, without building its models. Call it before any other import of it."""
    if "aiogram" in sys.modules:
        return
    names: dict[str, Any] = {}
    build = BaseModel.__dict__["model_rebuild"].__func__

    def remember(
        _: type[BaseModel], /, *, _types_namespace: dict[str, Any] | None = None, **__: Any
    ) -> None:
        names.update(_types_namespace or {})

    def build_with_names(
        model: type[BaseModel],
        *,
        force: bool = False,
        raise_errors: bool = True,
        _parent_namespace_depth: int = 2,
        _types_namespace: dict[str, Any] | None = None,
    ) -> bool | None:
        if model.__module__.startswith("aiogram."):
            _types_namespace = names
        built: bool | None = build(
            model,
            force=force,
            raise_errors=raise_errors,
            _parent_namespace_depth=_parent_namespace_depth + 1,
            _types_namespace=_types_namespace,
        )
        return built

    gc.disable()  # Nothing of it is garbage: collections were a sixth of the start.
    BaseModel.model_config["defer_build"] = True
    setattr(BaseModel, "model_rebuild", classmethod(remember))  # noqa: B010 - replaced on purpose.
    try:
        __import__("aiogram")
    finally:
        del BaseModel.model_config["defer_build"]
        # From now on pydantic builds aiogram's models with aiogram's names.
        setattr(BaseModel, "model_rebuild", classmethod(build_with_names))  # noqa: B010 - the same.
        gc.freeze()
        gc.enable()
