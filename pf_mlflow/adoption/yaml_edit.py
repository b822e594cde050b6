"""Finds places in the text of a YAML document, so that it can be edited without losing comments, order and style."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import yaml

from pf_mlflow.adoption.text_edits import newline_of

__all__ = ["Change", "YamlText"]

Change = tuple[int, str, str]
"""Place in characters, what goes, what comes."""


class YamlText:
    """A YAML document whose root is a mapping in block style.

    Raises:
        ValueError: it is something else.
        yaml.YAMLError: it is no YAML.
    """

    def __init__(self, text: str) -> None:
        self.text = text
        self._newline = newline_of(text)
        root = yaml.compose(text, Loader=yaml.SafeLoader)
        if not isinstance(root, yaml.MappingNode) or root.flow_style:
            raise ValueError("it is not written as one key a line")
        self._root = root

    # What is there

    def value(self, key: str) -> yaml.Node | None:
        """Return the node of a key's value."""
        return _value(self._root, key)

    # What can be added

    def entry(self, key: str, name: str, value: object) -> Change:
        """Return the change that adds an entry at the end of the mapping under a key, which is made if missing."""
        mapping = self.value(key)
        if mapping is None:
            return self._block({key: {name: value}})
        if not _is_filled(mapping):
            key_node = self._key(key)
            return self._after(key_node, self._lines({name: value}, key_node.start_mark.column + 2))
        if not isinstance(mapping, yaml.MappingNode):
            raise ValueError(f"its {key!r} is no mapping")
        if mapping.flow_style:
            comma = ", " if mapping.value else ""
            return mapping.end_mark.index - 1, "", f"{comma}{name}: {_inline(value)}"
        return self._after(mapping, self._lines({name: value}, mapping.value[0][0].start_mark.column))

    def other_value(self, key: str, name: str, value: str) -> Change:
        """Return the change that gives an entry of the mapping under a key another value, quoted as the old one."""
        mapping = self.value(key)
        assert isinstance(mapping, yaml.MappingNode)
        node = _value(mapping, name)
        if not isinstance(node, yaml.ScalarNode) or node.style in ("|", ">"):
            raise ValueError(f"its {name!r} is no single value")
        start, end = self._line_start(node.start_mark.index), self._line_end(node.end_mark.index)
        quote = node.style or '"'
        line = self.text[start : node.start_mark.index] + quote + value + quote + self.text[node.end_mark.index : end]
        return start, self.text[start:end], line

    def first_item(self, key: str, item: Mapping[str, object]) -> Change:
        """Return the change that puts an item before all others of the list under a key, below comments on the key."""
        return self._line_end(self._key(key).end_mark.index), "", self._item(key, item)

    def last_items(self, key: str, *items: Mapping[str, object]) -> Change:
        """Return the change that puts items behind all others of the list under a key."""
        return self._after(self._list(key), "".join(self._item(key, item) for item in items))

    def _key(self, key: str) -> yaml.Node:
        node: yaml.Node = next(name for name, _ in self._root.value if name.value == key)
        return node

    def _list(self, key: str) -> yaml.SequenceNode:
        node = self.value(key)
        if not isinstance(node, yaml.SequenceNode) or node.flow_style or not node.value:
            raise ValueError(f"its {key!r} is not written as one item below the other")
        return node

    # Where

    def _block(self, block: Mapping[str, object]) -> Change:
        """Put a block before `nodes`: behind what stands there, so that comments stay with what they are about."""
        before = None
        for name, value in self._root.value:
            if name.value == "nodes":
                break
            before = _written(name, value)
        lines = self._lines(block, self._root.start_mark.column)
        if before is None:
            return self._line_start(self._root.start_mark.index), "", lines
        return self._after(before, lines)

    def _after(self, node: yaml.Node, lines: str) -> Change:
        at = self._line_end(self._content_end(node))
        return at, "", lines if at == 0 or self.text[at - 1] == "\n" else self._newline + lines

    def _content_end(self, node: yaml.Node) -> int:
        while isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
            last = node.value[-1]
            node = _written(*last) if isinstance(last, tuple) else last
        end: int = node.end_mark.index
        is_block = isinstance(node, yaml.ScalarNode) and node.style in ("|", ">")
        return len(self.text[:end].rstrip()) if is_block else end

    def _line_start(self, at: int) -> int:
        return self.text.rfind("\n", 0, at) + 1 or int(self.text.startswith("\ufeff"))

    def _line_end(self, at: int) -> int:
        return self.text.find("\n", at) + 1 or len(self.text)

    # How it is written

    def _item(self, key: str, item: Mapping[str, object]) -> str:
        nodes = self._list(key)
        dash, column = nodes.start_mark.column, nodes.value[0].start_mark.column
        lines = self._lines(item, column)
        return f"{' ' * dash}-{' ' * (column - dash - 1)}{lines[column:]}"

    def _lines(self, mapping: Mapping[str, object], indent: int) -> str:
        return "".join(" " * indent + line + self._newline for line in _dump(mapping).splitlines())


def _value(mapping: yaml.MappingNode, key: str) -> yaml.Node | None:
    return next((value for name, value in mapping.value if name.value == key), None)


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
