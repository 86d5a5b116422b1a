"""YAML as people mean it, read and written."""

import re
from collections.abc import Mapping
from typing import Any

import yaml


class _Loader(yaml.SafeLoader):
    """YAML as people mean it: 1e-3 is a number and 1:30 is not, a key stands once, and nothing refers to elsewhere."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.events.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "references (*name) are not taken here", mark)
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                raise yaml.constructor.ConstructorError(None, None, "a key is a plain word", key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(None, None, f"{key.value!r} stands twice", key.start_mark)
            seen.add(key.value)
        return super().construct_mapping(node, deep)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag.rpartition(":")[2] in ("null", "merge")]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
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
    """Quotes what this reader, or one by the letter of YAML 1.1, would take for something else than text."""


_letter, _ours = yaml.SafeDumper.yaml_implicit_resolvers, _Loader.yaml_implicit_resolvers
_Dumper.yaml_implicit_resolvers = {
    first: [*_letter.get(first, []), *_ours.get(first, [])] for first in [*_letter, *_ours]
}


def parse(text: str) -> Any:
    """Return what YAML text means.

    Raises:
        ValueError: it is no YAML; the message says where.

    Example:
        >>> parse("{lr: 1e-3, at: 1:30}")
        {'lr': 0.001, 'at': '1:30'}
    """
    try:
        return yaml.load(text, _Loader)
    # A deep enough file exhausts the parser's stack; a date that there is not is a ValueError.
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        raise ValueError(f"not YAML: {' '.join(str(error).split())}") from None


def as_yaml(entries: Mapping[str, Any]) -> str:
    """Return entries as YAML, in which a text that looks like something else stands in quotes.

    Example:
        >>> as_yaml({"name": "1e5", "lr": 0.1})
        "name: '1e5'\\nlr: 0.1\\n"
    """
    return yaml.dump(dict(entries), Dumper=_Dumper, sort_keys=False)
