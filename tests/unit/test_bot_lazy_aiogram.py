"""aiogram is imported without building its models; each of them can be built later."""

import subprocess
import sys

LAZY = """
import bot_gateway
from aiogram import methods, types
kinds = {name: getattr(types, name) for name in types.__all__}
built = [name for name, kind in kinds.items() if getattr(kind, "__pydantic_complete__", False)]
assert not built, built
message = {"message_id": 1, "date": 1, "text": "/start", "chat": {"id": 1, "type": "private"}}
message["from"] = {"id": 1, "is_bot": False, "first_name": "A"}
update = types.Update.model_validate({"update_id": 1, "message": message})
assert update.message.from_user.first_name == "A"
models = [getattr(module, name) for module in (types, methods) for name in module.__all__]
for model in models:
    generic = getattr(model, "__pydantic_generic_metadata__", {"parameters": True})["parameters"]
    if isinstance(model, type) and not generic:
        model.model_rebuild()
        assert model.__pydantic_complete__, model
print("all built")
"""


def test_every_model_of_aiogram_can_be_built_later() -> None:
    """In a process of its own: this one may have imported aiogram before."""
    done = subprocess.run(
        [sys.executable, "-c", LAZY], capture_output=True, text=True, timeout=600, check=False
    )
    assert (done.returncode, done.stdout) == (0, "all built\n"), done.stderr
