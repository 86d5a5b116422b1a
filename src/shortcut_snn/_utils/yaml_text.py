"""Read and write YAML. Numbers follow YAML 1.2, and anchors, repeated keys and objects are refused."""

import re
from collections.abc import Mapping
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """PyYAML's safe loader with the numbers of YAML 1.2: 1e-3 is a number, and 1:30 and 2026-01-01 are text."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            # Nested aliases can expand to more than the memory holds.
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases (*name) are not supported", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        keys = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key must be a word", key.start_mark)
            if key.value in keys:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} is there twice", key.start_mark)
            keys.add(key.value)
        return super().construct_mapping(node, deep)


_YAML_1_1 = yaml.SafeDumper.yaml_implicit_resolvers
_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag.rpartition(":")[2] in ("null", "merge")]
    for first, resolvers in _YAML_1_1.items()
}
for _tag, _pattern, _first in (
    ("bool", r"^(?:true|True|TRUE|false|False|FALSE)$", "tTfF"),
    ("int", r"^[-+]?[0-9]+$", "-+0123456789"),
    ("float", r"^[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?$", "-+.0123456789"),
    ("float", r"^[-+]?\.(?:inf|Inf|INF)$|^\.(?:nan|NaN|NAN)$", "-+."),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), list(_first))
_Loader.add_constructor("tag:yaml.org,2002:int", lambda loader, node: int(node.value))
_Loader.add_constructor(
    "tag:yaml.org,2002:float",
    lambda loader, node: float(node.value.lower().replace(".inf", "inf").replace(".nan", "nan")),
)


class _Dumper(yaml.SafeDumper):
    """PyYAML's safe dumper. It quotes text that this loader, or one of YAML 1.1, would not read as text."""


_YAML_1_2 = _Loader.yaml_implicit_resolvers
_Dumper.yaml_implicit_resolvers = {
    first: [*_YAML_1_1.get(first, []), *_YAML_1_2.get(first, [])] for first in [*_YAML_1_1, *_YAML_1_2]
}


def parse(text: str | bytes) -> Any:
    """Return the value of YAML text, or of a file's bytes in UTF-8 or UTF-16."""
    try:
        return yaml.load(text, _Loader)
    # Deep nesting exhausts the stack of the parser.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"not YAML: {' '.join(str(error).split())}") from None


def as_yaml(entries: Mapping[str, Any]) -> str:
    """Return a mapping as YAML text."""
    return yaml.dump(dict(entries), Dumper=_Dumper, sort_keys=False)
