"""A configuration file's YAML, taken apart: which key is set to which texts, and in which line.

Texts stay as they are written; what they mean is for the flag to say. The file may be anybody's: it is taken apart node by
node, and makes no object. Anchors are refused, so nothing in it can be repeated into something large.
"""

from collections.abc import Collection, Iterator
from difflib import get_close_matches
from typing import Any, Literal, NamedTuple

import yaml
from yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

_TAGS = {f"tag:yaml.org,2002:{name}" for name in ("str", "int", "float", "bool", "timestamp")}
_NULL = "tag:yaml.org,2002:null"
_PLAIN = {*_TAGS, _NULL, "tag:yaml.org,2002:map", "tag:yaml.org,2002:seq"}
_MAX_DEPTH = 8
_MAX_KEY = 80


class DocumentError(Exception):
    """What is wrong, and in which line, None if in none."""

    def __init__(self, line: int | None, text: str) -> None:
        super().__init__(text)
        self.line = line


class Given(NamedTuple):
    """A text.

    Attributes:
        line: where it stands.
        text: as written, without quotes.
        name: what stands before it, in a mapping `NAME: TEXT`.
    """

    line: int
    text: str
    name: str | None = None


class Entry(NamedTuple):
    """A key and its texts, one at least."""

    key: str
    line: int
    form: Literal["value", "list", "mapping"]
    values: tuple[Given, ...]


def parse(raw: bytes, known: Collection[str]) -> list[Entry]:
    """Return what a file sets.

    Args:
        raw: the file.
        known: the dotted keys. In the file the dots may be levels, or be written.

    Raises:
        DocumentError: it is no YAML, or has unknown keys, a key twice, or a key without a text.
    """
    root = _compose(raw)
    if root is None or root.tag == _NULL:
        return []
    if not isinstance(root, MappingNode):
        raise DocumentError(_line(root), "the file is no mapping of keys to values")
    lines: dict[str, int] = {}
    return list(_entries(root, "", known, lines))


# --- nodes


class _Loader(yaml.SafeLoader):
    depth = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node | None:
        event = self.peek_event()  # type: ignore[no-untyped-call]
        if getattr(event, "anchor", None) is not None:
            raise DocumentError(_line(event), "anchors and aliases are not taken: write the value out")
        if self.depth > _MAX_DEPTH:
            raise DocumentError(_line(event), "this is nested too deep")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        if node is not None and node.tag not in _PLAIN:
            raise DocumentError(_line(node), f"{_cut(node.tag)} is no tag that is taken here")
        if isinstance(node, ScalarNode) and any("\ud800" <= char <= "\udfff" for char in node.value):
            raise DocumentError(_line(node), f"{_cut(node.value)} has half a character in it")
        return node


def _compose(raw: bytes) -> Node | None:
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise DocumentError(raw.count(b"\n", 0, error.start) + 1, "this is not UTF-8") from None
    loader = None
    try:
        loader = _Loader(text)
        node: Node | None = loader.get_single_node()
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise DocumentError(line, f"the character U+{ord(text[error.position]):04X} is not allowed") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = ", ".join(filter(None, [error.context, error.problem]))
        raise DocumentError(mark.line + 1 if mark else None, f"no YAML: {what}") from None
    except yaml.YAMLError as error:
        raise DocumentError(None, f"no YAML: {error}") from None
    except (ValueError, OverflowError):  # what an escape or the version of YAML stands for
        here = loader.line + 1 if loader is not None else None
        raise DocumentError(here, "no YAML: this number is too large") from None
    finally:
        if loader is not None:
            loader.dispose()
    return node


def _line(node: Any) -> int:
    return int(node.start_mark.line) + 1


# --- keys


def _entries(
    mapping: MappingNode, prefix: str, known: Collection[str], lines: dict[str, int]
) -> Iterator[Entry]:
    for key_node, node in mapping.value:
        line = _line(key_node)
        if not isinstance(key_node, ScalarNode):
            raise DocumentError(line, "a key must be a word")
        key = prefix + key_node.value
        if key in lines:
            raise DocumentError(line, f"{_cut(key)} is there twice: it is in line {lines[key]}, too")
        lines[key] = line
        if key in known:
            yield _entry(key, line, node)
        elif not any(each.startswith(f"{key}.") for each in known):
            raise DocumentError(line, _unknown(key, known))
        elif isinstance(node, MappingNode):
            yield from _entries(node, f"{key}.", known, lines)
        elif node.tag != _NULL:  # of a section whose keys are all commented out, nothing is left
            first = min(each for each in known if each.startswith(f"{key}."))
            raise DocumentError(line, f"'{key}' has no value of its own, but keys such as '{first}'")


def _unknown(key: str, known: Collection[str]) -> str:
    sections = {each.rpartition(".")[0] for each in known}
    # What is too long to be meant is not compared as a whole: the time grows with the square of its length.
    nearest = get_close_matches(key[:_MAX_KEY], sorted({*known, *sections}), n=1, cutoff=0.0)
    return f"unknown key {_cut(key)}; the nearest known one is '{nearest[0]}'"


def _cut(text: str) -> str:
    return repr(text if len(text) <= _MAX_KEY else text[:_MAX_KEY] + "...")


# --- values


def _entry(key: str, line: int, node: Node) -> Entry:
    form: Literal["value", "list", "mapping"] = "value"
    values: list[Given] = []
    if isinstance(node, MappingNode):
        form = "mapping"
        for name, value in node.value:
            if not isinstance(name, ScalarNode):
                raise DocumentError(_line(name), f"a name in '{key}' must be a word")
            values += [each._replace(name=name.value) for each in _texts(key, value)]
    else:
        form = "list" if isinstance(node, SequenceNode) else "value"
        values += _texts(key, node)
    if not values:
        raise DocumentError(line, f"'{key}' is empty: leave the key out for its default")
    return Entry(key, line, form, tuple(values))


def _texts(key: str, node: Node) -> Iterator[Given]:
    for each in node.value if isinstance(node, SequenceNode) else [node]:
        if not isinstance(each, ScalarNode):
            raise DocumentError(_line(each), f"'{key}' takes texts, and this is a list or a mapping")
        if each.tag == _NULL:
            raise DocumentError(_line(each), f"'{key}' has no value: leave the key out for its default")
        yield Given(_line(each), each.value)
