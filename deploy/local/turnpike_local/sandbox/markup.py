"""Telegram's HTML, parsed into the plain text and the entities that Telegram keeps.

The dialect and its refusals follow TDLib's `parse_html` (td/telegram/MessageEntity.cpp): a fixed
list of tags, four named character references, tags properly nested. Offsets and lengths are in
UTF-16 code units, as in the Bot API.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from .rules import Json, bad_request, url_problem, utf16_units

_ENTITY_OF_TAG = {
    "a": "text_link",
    "b": "bold",
    "blockquote": "blockquote",
    "code": "code",
    "del": "strikethrough",
    "em": "italic",
    "i": "italic",
    "ins": "underline",
    "pre": "pre",
    "s": "strikethrough",
    "span": "spoiler",
    "strike": "strikethrough",
    "strong": "bold",
    "tg-emoji": "custom_emoji",
    "tg-spoiler": "spoiler",
    "u": "underline",
}
_NAMED = {"lt": "<", "gt": ">", "amp": "&", "quot": '"'}
_REFERENCE = re.compile(r"&(?:#x([0-9a-fA-F]{1,6})|#([0-9]{1,7})|(lt|gt|amp|quot)(?![A-Za-z]));?")
_NAME = re.compile(r"[^\s>]*")
_ATTRIBUTE = re.compile(
    r"""([^\s=>]+)(?:\s*=\s*(?:"([^"]*)"|'([^']*)'|([\w.-]+)(?=[\s>])))?""", re.ASCII
)
_SPACE = re.compile(r"\s*")
_URL = re.compile(r"https?://[^\s<>\"]+[^\s<>\".,;:!?)»]")
_COMMAND = re.compile(r"(?<![\w/])/[A-Za-z0-9_]{1,32}(?![\w/])")


@dataclass(frozen=True)
class Formatted:
    """A text without markup, and its formatted spans."""

    text: str
    entities: list[Json] = field(default_factory=list)


@dataclass
class _OpenTag:
    name: str
    attributes: dict[str, str]
    offset: int
    began_at: int  # In `text` parts, for a link without an address.


def formatted(text: str, parse_mode: str, entities: object) -> Formatted:
    """A bot's text in the form that is kept: trimmed, with the links and commands found in it.

    Markdown is refused as an unknown mode. The shop writes none, and a partial parser would accept
    texts that Telegram refuses.
    """
    mode = parse_mode.lower()
    if mode not in ("", "html"):
        raise bad_request("unsupported parse_mode")
    given = parse_html(text) if mode == "html" else Formatted(text, _given_entities(text, entities))
    kept = _trimmed(given)
    return Formatted(kept.text, sorted(kept.entities + _found_entities(kept), key=_order))


def parse_html(source: str) -> Formatted:
    """The text and entities of `source`. A refusal names the byte offset, like Telegram's."""
    parts: list[str] = []
    entities: list[Json] = []
    open_tags: list[_OpenTag] = []
    offset = position = 0
    while position < len(source):
        if source[position] == "<":
            if source.startswith("</", position):
                position = _close(source, position, open_tags, entities, offset, parts)
            else:
                name, attributes, position = _open(source, position)
                open_tags.append(_OpenTag(name, attributes, offset, len(parts)))
            continue
        character, position = _character(source, position)
        parts.append(character)
        offset += utf16_units(character)
    if open_tags:
        raise _unparsable(f"Can't find end tag corresponding to start tag {open_tags[-1].name}")
    return Formatted("".join(parts), sorted(entities, key=_order))


def _character(source: str, position: int) -> tuple[str, int]:
    """One character of text, with a known reference decoded. An unknown reference is plain text."""
    reference = _REFERENCE.match(source, position)
    if reference is None:
        return source[position], position + 1
    hexadecimal, decimal, name = reference.groups()
    if name:
        return _NAMED[name], reference.end()
    code = int(hexadecimal, 16) if hexadecimal else int(decimal)
    if not 0 < code < 0x10FFFF or 0xD800 <= code <= 0xDFFF:
        return source[position], position + 1
    return chr(code), reference.end()


def _open(source: str, begin: int) -> tuple[str, dict[str, str], int]:
    """A start tag: its name, its attributes, and the position after it."""
    at = _byte_offset(source, begin)
    match = _NAME.match(source, begin + 1)
    assert match is not None  # The pattern matches the empty string.
    name, position = match.group().lower(), match.end()
    if position == len(source):
        raise _unparsable(f"Unclosed start tag at byte offset {at}")
    if name not in _ENTITY_OF_TAG:
        raise _unparsable(f'Unsupported start tag "{name}" at byte offset {at}')
    attributes: dict[str, str] = {}
    while True:
        position = _skip_space(source, position)
        if position == len(source):
            raise _unparsable(f"Unclosed start tag at byte offset {at}")
        if source[position] == ">":
            break
        attribute = _ATTRIBUTE.match(source, position)
        if attribute is None:
            raise _unparsable(f'Empty attribute name in the tag "{name}" at byte offset {at}')
        position = attribute.end()
        if position < len(source) and source[position] not in " \t\r\n\v>":
            raise _unparsable(f'Unclosed start tag "{name}" at byte offset {at}')
        value = next((group for group in attribute.groups()[1:] if group is not None), "")
        attributes[attribute.group(1).lower()] = _decoded(value)
    if name == "span" and attributes.get("class") != "tg-spoiler":
        raise _unparsable(f'Tag "span" must have class "tg-spoiler" at byte offset {at}')
    return name, attributes, position + 1


def _close(
    source: str,
    begin: int,
    open_tags: list[_OpenTag],
    entities: list[Json],
    offset: int,
    parts: list[str],
) -> int:
    """Turn the tag that ends here into an entity. Returns the position after it."""
    at = _byte_offset(source, begin)
    if not open_tags:
        raise _unparsable(f"Unexpected end tag at byte offset {at}")
    match = _NAME.match(source, begin + 2)
    assert match is not None
    name, position = match.group().lower(), _skip_space(source, match.end())
    if position == len(source) or source[position] != ">":
        raise _unparsable(f"Unclosed end tag at byte offset {at}")
    tag = open_tags.pop()
    if name and name != tag.name:
        raise _unparsable(
            f'Unmatched end tag at byte offset {at}, expected "</{tag.name}>", found "</{name}>"'
        )
    if offset > tag.offset:
        entity = _entity(tag, offset - tag.offset, "".join(parts[tag.began_at :]))
        if entity is not None:
            _add(entities, entity)
    return position + 1


def _entity(tag: _OpenTag, length: int, inside: str) -> Json | None:
    entity: Json = {"type": _ENTITY_OF_TAG[tag.name], "offset": tag.offset, "length": length}
    if tag.name == "a":
        url = tag.attributes.get("href") or inside
        if url_problem(url):
            return None  # Telegram silently keeps such a link as plain text.
        return {**entity, "url": url if "://" in url else f"http://{url}"}
    if tag.name == "code" and tag.attributes.get("class", "").startswith("language-"):
        entity["language"] = tag.attributes["class"].removeprefix("language-")
    if tag.name == "blockquote" and "expandable" in tag.attributes:
        entity["type"] = "expandable_blockquote"
    if tag.name == "tg-emoji":
        if not tag.attributes.get("emoji-id", "").isdecimal():
            raise _unparsable("Invalid custom emoji identifier specified")
        entity["custom_emoji_id"] = tag.attributes["emoji-id"]
    return entity


def _add(entities: list[Json], entity: Json) -> None:
    """Add an entity. `<pre><code class="language-x">` is one; `<code>` alone has no language."""
    inner = entities[-1] if entities else None
    same_span = inner is not None and all(inner[key] == entity[key] for key in ("offset", "length"))
    if inner is not None and entity["type"] == "pre" and same_span and inner["type"] == "code":
        entities[-1] = {
            **entity,
            **({"language": inner["language"]} if "language" in inner else {}),
        }
    else:
        entities.append(entity)


def _trimmed(given: Formatted) -> Formatted:
    """Strip white space at both ends, and the entities on it."""
    start = utf16_units(given.text) - utf16_units(given.text.lstrip())
    text = given.text.strip()
    end = utf16_units(text)
    entities = []
    for entity in given.entities:
        begin = max(entity["offset"] - start, 0)
        length = min(entity["offset"] + entity["length"] - start, end) - begin
        if length > 0:
            entities.append({**entity, "offset": begin, "length": length})
    for entity in entities:
        if entity["type"] == "code":
            entity.pop("language", None)
    return Formatted(text, entities)


def _found_entities(kept: Formatted) -> list[Json]:
    """Links and commands in plain text, except inside code or another link."""
    taken = [
        (e["offset"], e["offset"] + e["length"])
        for e in kept.entities
        if e["type"] in ("code", "pre", "text_link")
    ]
    found: list[Json] = []
    for kind, pattern in (("url", _URL), ("bot_command", _COMMAND)):
        for match in pattern.finditer(kept.text):
            begin = utf16_units(kept.text[: match.start()])
            length = utf16_units(match.group())
            if all(end <= begin or begin + length <= start for start, end in taken):
                found.append({"type": kind, "offset": begin, "length": length})
                taken.append((begin, begin + length))
    return found


def _given_entities(text: str, entities: object) -> list[Json]:
    if not isinstance(entities, list):
        return []
    for entity in entities:
        numbers = isinstance(entity, Mapping) and all(
            type(entity.get(key)) is int for key in ("offset", "length")
        )
        if not numbers or not isinstance(entity.get("type"), str):
            raise bad_request("can't parse MessageEntity: type, offset and length are expected")
        if (
            entity["offset"] < 0
            or entity["length"] <= 0
            or entity["offset"] + entity["length"] > utf16_units(text)
        ):
            raise bad_request("ENTITY_BOUNDS_INVALID")
    return [dict(entity) for entity in entities]


def _decoded(value: str) -> str:
    parts, position = [], 0
    while position < len(value):
        character, position = _character(value, position)
        parts.append(character)
    return "".join(parts)


def _order(entity: Json) -> tuple[int, int]:
    return entity["offset"], -entity["length"]


def _skip_space(source: str, position: int) -> int:
    match = _SPACE.match(source, position)
    assert match is not None
    return match.end()


def _byte_offset(source: str, position: int) -> int:
    return len(source[:position].encode())


def _unparsable(reason: str) -> Exception:
    return bad_request(f"can't parse entities: {reason}")
