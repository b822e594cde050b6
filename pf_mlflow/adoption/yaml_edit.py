"""Edits of a text, of a YAML document above all: comments, order and style stay, and the edits can be taken back."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import yaml

__all__ = ["Edit", "appended_lines", "applied", "edited_yaml", "newline_of", "taken_back"]


@dataclass(frozen=True)
class Edit:
    """At a place of a text, in characters, some text goes and some comes."""

    at: int
    removed: str
    added: str


def applied(text: str, edits: Iterable[Edit]) -> tuple[str, list[Edit]]:
    """Make edits and return the new text with the edits as they stand in it.

    Places are given in the text as it is; edits of one place are made in their order.
    """
    made: list[Edit] = []
    shift = 0
    for edit in sorted(edits, key=lambda edit: edit.at):
        at = edit.at + shift
        text = text[:at] + edit.added + text[at + len(edit.removed) :]
        made.append(replace(edit, at=at))
        shift += len(edit.added) - len(edit.removed)
    return text, made


def taken_back(text: str, edits: Sequence[Edit]) -> str:
    """Return a text as it was before edits; what was changed elsewhere since stays.

    Raises:
        ValueError: what an edit added is not to be found, or in several places.
    """
    for edit in reversed(edits):
        at = edit.at if text.startswith(edit.added, edit.at) else _only_place(text, edit.added)
        text = text[:at] + edit.removed + text[at + len(edit.added) :]
    return text


def _only_place(text: str, added: str) -> int:
    if text.count(added) != 1:
        raise ValueError(added)
    return text.index(added)


def appended_lines(text: str, lines: Sequence[str]) -> Edit:
    """Return the edit that appends lines to a text, in the text's own kind of line ends."""
    newline = newline_of(text)
    start = newline if text and not text.endswith("\n") else ""
    return Edit(len(text), "", start + "".join(line + newline for line in lines))


def newline_of(text: str) -> str:
    """Return the line end that a text uses."""
    return "\r\n" if "\r\n" in text else "\n"


def edited_yaml(text: str, there: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[str, list[Edit]]:
    """Return a YAML document with what it lacks, and the edits that were made.

    Args:
        text: The document; its root is a mapping in block style.
        there: What it holds.
        wanted: What it shall hold: more entries in its mappings, other values of them, more items around its lists.

    Raises:
        ValueError: it is written in a way that cannot be edited safely.
        yaml.YAMLError: it is no YAML.
    """
    document = _Document(text)
    # What comes into a mapping that ends just before `nodes` goes before the keys that are new there.
    keys = sorted((key for key in wanted if wanted[key] != there.get(key)), key=lambda key: key not in there)
    new, edits = applied(text, (edit for key in keys for edit in document.edits(key, there.get(key), wanted[key])))
    if yaml.safe_load(new) != wanted:
        raise ValueError("it uses YAML that only its author can edit")
    return new, edits


class _Document:
    def __init__(self, text: str) -> None:
        self._text, self._newline = text, newline_of(text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if not isinstance(root, yaml.MappingNode) or root.flow_style:
            raise ValueError("it is not written as one key a line")
        self._root = root

    def edits(self, key: str, old: Any, new: Any) -> Iterator[Edit]:
        """Yield the edits that give a key of the root its new value."""
        if isinstance(new, list):
            yield from self._items(key, old, new)
            return
        for name, value in new.items():
            if name not in (old or {}):
                yield self._entry(key, name, value)
            elif old[name] != value:
                yield self._other_value(key, name, value)

    def _items(self, key: str, old: list[Any], new: list[Any]) -> Iterator[Edit]:
        first = next(at for at in range(len(new)) if new[at : at + len(old)] == old)
        key_node, items = self._pair(key)
        if not isinstance(items, yaml.SequenceNode) or items.flow_style or not items.value:
            raise ValueError(f"its {key!r} is not written as one item below the other")
        if before := new[:first]:
            yield Edit(self._line_end(key_node.end_mark.index), "", self._as_items(items, before))
        if behind := new[first + len(old) :]:
            yield self._after(items, self._as_items(items, behind))

    def _entry(self, key: str, name: str, value: object) -> Edit:
        """Return the edit that adds an entry at the end of the mapping under a key, which is made if missing."""
        key_node, mapping = self._pair(key)
        if mapping is None:
            return self._block({key: {name: value}})
        if not _is_filled(mapping):
            return self._after(key_node, self._lines({name: value}, key_node.start_mark.column + 2))
        if not isinstance(mapping, yaml.MappingNode):
            raise ValueError(f"its {key!r} is no mapping")
        if mapping.flow_style:
            comma = ", " if mapping.value else ""
            return Edit(mapping.end_mark.index - 1, "", f"{comma}{name}: {_inline(value)}")
        return self._after(mapping, self._lines({name: value}, mapping.value[0][0].start_mark.column))

    def _other_value(self, key: str, name: str, value: str) -> Edit:
        """Return the edit that gives an entry of the mapping under a key another value, quoted as the old one."""
        _, node = _pair(self._pair(key)[1], name)
        if not isinstance(node, yaml.ScalarNode) or node.style in ("|", ">"):
            raise ValueError(f"its {name!r} is no single value")
        start, end = self._line_start(node.start_mark.index), self._line_end(node.end_mark.index)
        quote = node.style or '"'
        line = self._text[start : node.start_mark.index] + quote + value + quote + self._text[node.end_mark.index : end]
        return Edit(start, self._text[start:end], line)

    def _pair(self, key: str) -> tuple[Any, Any]:
        return _pair(self._root, key)

    # Where

    def _block(self, block: Mapping[str, object]) -> Edit:
        """Put a block before `nodes`: behind what stands there, so that comments stay with what they are about."""
        before = None
        for name, value in self._root.value:
            if name.value == "nodes":
                break
            before = _written(name, value)
        lines = self._lines(block, self._root.start_mark.column)
        if before is None:
            return Edit(self._line_start(self._root.start_mark.index), "", lines)
        return self._after(before, lines)

    def _after(self, node: yaml.Node, lines: str) -> Edit:
        at = self._line_end(self._content_end(node))
        return Edit(at, "", lines if at == 0 or self._text[at - 1] == "\n" else self._newline + lines)

    def _content_end(self, node: yaml.Node) -> int:
        while isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
            last = node.value[-1]
            node = _written(*last) if isinstance(last, tuple) else last
        end: int = node.end_mark.index
        is_block = isinstance(node, yaml.ScalarNode) and node.style in ("|", ">")
        return len(self._text[:end].rstrip()) if is_block else end

    def _line_start(self, at: int) -> int:
        return self._text.rfind("\n", 0, at) + 1 or int(self._text.startswith("\ufeff"))

    def _line_end(self, at: int) -> int:
        return self._text.find("\n", at) + 1 or len(self._text)

    # How it is written

    def _as_items(self, nodes: yaml.SequenceNode, items: Sequence[Mapping[str, object]]) -> str:
        dash, column = nodes.start_mark.column, nodes.value[0].start_mark.column
        start = f"{' ' * dash}-{' ' * (column - dash - 1)}"
        return "".join(start + self._lines(item, column)[column:] for item in items)

    def _lines(self, mapping: Mapping[str, object], indent: int) -> str:
        return "".join(" " * indent + line + self._newline for line in _dump(mapping).splitlines())


def _pair(mapping: Any, key: str) -> tuple[Any, Any]:
    """Return the nodes of a key and of its value; `None` where a document does not write the key out."""
    pairs = mapping.value if isinstance(mapping, yaml.MappingNode) else ()
    return next(((name, value) for name, value in pairs if name.value == key), (None, None))


def _is_filled(node: yaml.Node) -> bool:
    """Tell whether a value is written out; an empty one ends who knows where."""
    return not (isinstance(node, yaml.ScalarNode) and node.value == "" and node.style is None)


def _written(key: yaml.Node, value: yaml.Node) -> yaml.Node:
    """Return what is last of an entry in the text: its value, unless that is empty or an alias of one above."""
    return value if _is_filled(value) and value.start_mark.index >= key.end_mark.index else key


def _dump(value: Any, flow_style: bool = False) -> str:
    return yaml.dump(
        value, Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=10_000, default_flow_style=flow_style
    )


def _inline(value: Any) -> str:
    return _dump([value], flow_style=True).strip()[1:-1]


class _Dumper(yaml.SafeDumper):
    """Quotes what would not be text otherwise with `"`, as flows do."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    plain = dumper.represent_scalar("tag:yaml.org,2002:str", text)
    keeps = yaml.safe_load(f"a: {text}") == {"a": text} if text and "\n" not in text else False
    return plain if keeps else dumper.represent_scalar("tag:yaml.org,2002:str", text, style='"')


_Dumper.add_representer(str, _text)
