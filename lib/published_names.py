"""Parameters under their published names, wherever they lie in our modules."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from lib.registry import identify_network
from lib.timm_names import published_weights
from utils.runtime.backend import jt


class PublishedModule(jt.nn.Module):
    """A module with published weights: what `utils.checkpoint` asks of a model.

    Attributes:
        published_names: {path of a part in this module: its published path}. A part that is not named is
            published where it lies.
        optional_keys: beginnings of published names that a file may lack.
    """

    published_names: Mapping[str, str] = {}
    optional_keys: tuple[str, ...] = ()
    identify = staticmethod(identify_network)
    published_weights = staticmethod(published_weights)

    def state_dict(self, *args, **options) -> dict:
        """Parameters and running statistics under their published names."""
        own = super().state_dict(*args, **options)
        return {published_name(name, self.published_names): value for name, value in own.items()}


def published_name(name: str, table: Mapping[str, str]) -> str:
    """The published name of a parameter: the longest path that the table has is replaced.

    With {"stages.0.norm": "norm1"} "stages.0.norm.weight" is published as "norm1.weight".
    """
    parts = name.split(".")
    for end in range(len(parts), 0, -1):
        path = ".".join(parts[:end])
        if path in table:
            return ".".join([table[path], *parts[end:]])
    return name


def numbered(templates: Mapping[str, str], numbers: Iterable[int]) -> dict[str, str]:
    """A table with each template's places filled: ours with 0, 1, ..., the published ones with ``numbers``.

    {"stages.{}.norm": "norm{}"} and (1, 2) make {"stages.0.norm": "norm1", "stages.1.norm": "norm2"}.
    """
    return {ours.format(index): published.format(number) for index, number in enumerate(numbers)
            for ours, published in templates.items()}
