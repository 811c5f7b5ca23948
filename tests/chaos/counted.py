"""The findings of a count."""

from dataclasses import dataclass, field


@dataclass
class Count:
    """Charges that lack an effect, charges that have one twice, and messages sent again."""

    payments: int = 0
    lost: int = 0
    doubled: int = 0
    sent_again: int = 0
    examples: list[str] = field(default_factory=list)
    chats: list[str] = field(default_factory=list)

    def add(self, example: str, *, lost: bool = False, doubled: bool = False) -> None:
        self.lost += lost
        self.doubled += doubled
        self.examples.append(example)
