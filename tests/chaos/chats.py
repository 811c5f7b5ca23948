"""The count's last part: each message that was sent is in its chat, and no other is there."""

import re
from collections.abc import Collection
from uuid import UUID

from tests.chaos.counted import Count
from tests.chaos.shop import Shop

SENT = """
select r.chat_id, d.message_id, d.kind, d.thread, s.key,
  d.kind in ('access_ready', 'left_over') as grants,
  (
    select min(g.details ->> 'effect')
    from notifier.deliveries g
    where g.thread = d.thread and g.person = d.person and g.kind = 'access_ready'
  ) as effect
from notifier.deliveries d
join notifier.recipients r using (person)
left join vpn.subscriptions s using (person)
where d.state = 'sent'
"""

# How a message begins. "Your access is being set up" is edited into the one with the key.
PREFIXES = {
    "paid_issuing": ("⏳", "✅"),
    "access_ready": ("✅",),
    "access_ended": ("⌛",),
    "access_expiring": ("⏰",),
    "reward_earned": ("🎁",),
    "friend_registered": ("👋 A friend",),  # The welcome begins with the hand, too.
    "topped_up": ("💰",),
    "missing": ("💰",),
    "left_over": ("✅",),
    "refunded": ("↩️",),
}

# The sentence about what is left over of a payment of too much.
REST = re.compile("is left over|зачислен в ваш кошелёк")


async def check_chats(shop: Shop, too_much: Collection[UUID], count: Count) -> None:
    """Each sent message is in its chat, and that of an order in `too_much` names the rest.

    The first message of an access shows the key, and a renewal does not.
    A message of a known kind without a delivery was sent again.
    """
    seen = await shop.crowd.bot_texts()
    whose: dict[tuple[int, int], UUID | None] = {}
    granted, keyed = set(), set()
    for row in await shop.fetch(SENT):
        chat, number = place = (row["chat_id"], row["message_id"])
        text = seen.get(chat, {}).get(number, "")
        shows_key = str(row["key"]) in text
        granted |= {chat} if row["grants"] else set()
        keyed |= {chat} if shows_key else set()
        wrong_key = row["grants"] and shows_key != (row["effect"] == "begins")
        if not text.startswith(PREFIXES[row["kind"]]) or wrong_key:
            count.add(f"chat {chat} shows {text[:40]!r} where {row['kind']} was sent", lost=True)
        if row["thread"] in too_much and not REST.search(text):
            count.add(f"message {number} of chat {chat} does not name the rest", lost=True)
        if place in whose and (whose[place] is None or whose[place] != row["thread"]):
            count.add(f"message {number} of chat {chat} is two deliveries", lost=True)
        whose[place] = row["thread"]
    for chat in granted - keyed:
        count.add(f"chat {chat} shows no key", lost=True)
    prefixes = tuple({prefix for each in PREFIXES.values() for prefix in each})
    for chat, texts in seen.items():
        for number, text in texts.items():
            if text.startswith(prefixes) and (chat, number) not in whose:
                count.sent_again += 1
                example = f"message {number} of chat {chat} has no delivery: {text[:40]!r}"
                count.chats.append(example)
