"""Imports aiogram in a third of its time and memory.

aiogram describes the whole Bot API as pydantic models and has pydantic build a validator for each of them at import:
four seconds of a processor and a hundred megabytes at every start. Its models already allow
to be built when first used, but then their annotations are resolved where they were written, where aiogram imports most
names for type checkers only. So: hold the building back while aiogram is imported, keep the names it hands over, and
give them along whenever pydantic builds one of its models later.
"""

import gc
import sys
from typing import Any

from pydantic import BaseModel


def install() -> None:
    """Import aiogram now, without building its models. Call it before anything else imports aiogram."""
    if "aiogram" in sys.modules:
        return
    names: dict[str, Any] = {}
    build = BaseModel.__dict__["model_rebuild"].__func__

    def remember(_: type[BaseModel], /, *, _types_namespace: dict[str, Any] | None = None, **__: Any) -> None:
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

    gc.disable()  # Nothing of it is garbage: looking for some was a sixth of the start.
    BaseModel.model_config["defer_build"] = True
    BaseModel.model_rebuild = classmethod(remember)  # type: ignore[assignment,method-assign]  # Pydantic's own would build at import.
    try:
        __import__("aiogram")
    finally:
        del BaseModel.model_config["defer_build"]
        BaseModel.model_rebuild = classmethod(build_with_names)  # type: ignore[assignment,method-assign]  # Pydantic's own does not know aiogram's names.
        gc.freeze()
        gc.enable()
