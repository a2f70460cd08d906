"""A model of several components, as one consumer wants it: what its folder says of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from wconv.layouts.apply import Layout


@dataclass(frozen=True, slots=True)
class ComponentFamily:
    """A model of several components, as one consumer wants it.

    Attributes:
        name: what the consumer calls it.
        classes: `_class_name` in model_index.json of the pipelines that are this model.
        components: sub-directory → layout; "" is the model directory itself.
        files: component → names, one of which holds its weights, where a directory holds files alone; in
            sub-directories they have their path.
        command: loads the whole; `{model}` stands for its path.
    """

    name: str
    components: Mapping[str, Layout]
    classes: tuple[str, ...] = ()
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    command: str = ""


@dataclass(frozen=True, slots=True)
class FamilyOfFiles:
    """A family whose layouts are files: `<program>/tables/<family>.<component>.toml`.

    Attributes:
        components: its sub-directories.
        shared: component → the name of another family's file, where that is its layout.
        name, classes, files, command: as the family has them.
    """

    name: str
    components: tuple[str, ...]
    shared: Mapping[str, str] = field(default_factory=dict)
    classes: tuple[str, ...] = ()
    files: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    command: str = ""

    def read(self, folder: str) -> ComponentFamily:
        """The family with its layouts.

        Args:
            folder: the program's, in `wconv/consumers`.

        Raises:
            LayoutError: a file is missing, or no rules file.
        """
        from wconv.consumers import table_files

        names = {one: self.shared.get(one) or f"{self.name}.{one}".rstrip(".") for one in self.components}
        # each its own object, that tells its place
        layouts = {one: replace(table_files.component(folder, name)) for one, name in names.items()}
        return ComponentFamily(self.name, layouts, self.classes, self.files, self.command)
