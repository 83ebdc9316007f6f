"""YAML documents that hold settings, read strictly: every mistake is a ValueError of one line that says where it is.

All scalars stay text, as they are written, because what a scalar is follows from where it stands: a user `123` is no
number, and `no` may be a password's user as well.
"""

from collections.abc import Collection, Hashable, Iterator, Mapping, Sequence
from difflib import get_close_matches
from typing import Any

import yaml

Document = Mapping[str, object]

_UNSET = ("", "~", "null", "Null", "NULL")
_TRUE = ("true", "True", "TRUE", "yes", "Yes", "YES", "on", "On", "ON")
_FALSE = ("false", "False", "FALSE", "no", "No", "NO", "off", "Off", "OFF")


class _Loader(yaml.BaseLoader):
    """Makes str, list and dict of what can be encoded and named in messages.

    It refuses a key that is given twice, of which YAML would keep the last, keys with control characters, and halves of
    characters, which an escape can stand for.
    """

    def construct_scalar(self, node: yaml.ScalarNode) -> Any:
        if any("\ud800" <= char <= "\udfff" for char in node.value):
            raise yaml.constructor.ConstructorError(None, None, "half a character", node.start_mark)
        return super().construct_scalar(node)

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key is no text", key.start_mark)
            if not key.value.isprintable():
                problem = f"{key.value!r} has characters that no key has"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"{key.value!r} is given twice", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def parse(text: bytes) -> Document:
    """Return the mapping that a document is; an empty document is an empty one.

    Raises:
        ValueError: no YAML, or no mapping.
    """
    loader = None
    try:
        loader = _Loader(text)
        found = loader.get_single_data()
    except yaml.MarkedYAMLError as error:
        problem = " ".join(str(error.problem or "not to be understood").split())
        mark = error.problem_mark or error.context_mark
        where = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ValueError(f"{where}{problem}") from error
    except yaml.YAMLError as error:
        raise ValueError("no YAML: " + " ".join(str(error).split())) from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except (ValueError, OverflowError) as error:  # what an escape or the version of YAML stands for
        where = f"line {loader.line + 1}: " if loader is not None else ""
        raise ValueError(f"{where}a number that is too large") from error
    finally:
        if loader is not None:
            loader.dispose()
    if found is None or found in _UNSET:
        return {}
    if not isinstance(found, Mapping):
        raise ValueError("not a mapping of settings")
    return found


class Section:
    """A mapping inside a document, whose values are asked for by name and kind.

    Args:
        content: what stands there; None, or nothing written, is an empty mapping.
        names: the keys that there may be.
        where: the keys that lead to it, for messages.

    Raises:
        ValueError: by the constructor for an unknown key, by the methods for a value of another kind.
    """

    def __init__(self, content: object, names: Collection[str] | None, where: str = "") -> None:
        self.where = where
        if content is None or content in _UNSET:
            content = {}
        if not isinstance(content, Mapping):
            raise ValueError(f"{where}: not a mapping")
        self._content: Document = content
        if names is not None:
            for key in content:
                _check_known(self.at(key), key, names)

    def at(self, key: str) -> str:
        """Return the name of a key in messages."""
        return f"{self.where}.{key}" if self.where else key

    def section(self, key: str, names: Collection[str] | None) -> "Section":
        """Return the mapping at a key; `names` as for the constructor, None if any will do."""
        return Section(self._content.get(key), names, self.at(key))

    def keys(self) -> tuple[str, ...]:
        """Return all keys that stand there."""
        return tuple(self._content)

    def texts(self) -> Iterator[tuple[str, str]]:
        """Yield the keys that have a value, with it."""
        for key in self._content:
            if text := self.text(key):
                yield key, text

    def text(self, key: str) -> str:
        """Return the text at a key; empty if there is none."""
        found = self._content.get(key, "")
        if not isinstance(found, str):
            raise ValueError(f"{self.at(key)}: not a text")
        return "" if found in _UNSET else found

    def choice(self, key: str, choices: Sequence[str], default: str) -> str:
        """Return the text at a key, which must be one of `choices`."""
        found = self.text(key) or default
        if found not in choices:
            raise ValueError(f"{self.at(key)}: {found!r} is none of {', '.join(choices)}")
        return found

    def flag(self, key: str, *, default: bool) -> bool:
        """Return the boolean at a key."""
        found = self.text(key)
        if not found:
            return default
        if found not in (*_TRUE, *_FALSE):
            raise ValueError(f"{self.at(key)}: {found!r} is neither true nor false")
        return found in _TRUE

    def items(self, key: str) -> tuple[str, ...]:
        """Return the list of texts at a key; empty if there is none."""
        found = self._content.get(key, ())
        if found in _UNSET:
            return ()
        if isinstance(found, str) or not isinstance(found, Sequence):
            raise ValueError(f"{self.at(key)}: not a list")
        for item in found:
            if not isinstance(item, str) or item in _UNSET:
                raise ValueError(f"{self.at(key)}: an item that is no text")
        return tuple(found)

    def __contains__(self, key: str) -> bool:
        return bool(self._content.get(key)) and self._content[key] not in _UNSET

    def __bool__(self) -> bool:
        return any(key in self for key in self._content)


def _check_known(where: str, key: str, names: Collection[str]) -> None:
    if key in names:
        return
    near = get_close_matches(key, names, 1)
    hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(sorted(names))}"
    raise ValueError(f"{where}: unknown; {hint}")
