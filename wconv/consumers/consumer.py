"""A consumer: one program that loads what is written, and all that is known of it.

This module and each program's own `consumer.py` import nothing heavy, so that `--help` can list the programs
at once; what is large (tables of layouts, lists of model types) is behind a function that imports it late.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from wconv.consumers.adapters.naming import Naming

if TYPE_CHECKING:
    from wconv.consumers.cast_rules import CastRules
    from wconv.consumers.component_family import ComponentFamily
    from wconv.consumers.known_models import KnownModels
    from wconv.consumers.mlx.loading import Loader
    from wconv.consumers.needs import Needs
    from wconv.consumers.quantization.tables import QuantizationTable
    from wconv.layouts.apply import Layout
    from wconv.tensors.lazy import LazyTensor

Role = Literal["automatic", "by name", "way back", "adapters"]
"""How `--layout` leads to a consumer: by "auto" too, by name alone, as the way back, only for adapters."""

ConfigMaker = Callable[[Mapping[str, Any], "Mapping[str, LazyTensor]"], dict[str, Any]]
"""Makes config.json out of what the source says and its tensors (name → lazy tensor)."""

TensorMaker = Callable[[Mapping[str, Any], Mapping[str, Any]], "dict[str, LazyTensor]"]
"""Makes tensors out of generation_config.json and the config that a `ConfigMaker` made."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Substitute:
    """What becomes of a dtype that a consumer refuses, or reads as plain bytes."""

    source: str
    written: str
    why: str

    @property
    def summary(self) -> str:
        """The reason without its exceptions."""
        return self.why.partition(";")[0]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class QuantizationConfigs:
    """The fields of `quantization_config` by which a program is known to decode weights that stay quantized.

    Attributes:
        of_all: for every model.
        of_model_type: `model_type` → further ones.
    """

    of_all: tuple[Mapping[str, str], ...] = ()
    of_model_type: Mapping[str, tuple[Mapping[str, str], ...]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class UndecodedNames:
    """How names of weights end whose form a program's loader does not decode.

    Attributes:
        ends: of the names.
        only_for: fields of `quantization_config` for which alone that holds.
        not_for: fields for which it does not hold.
    """

    ends: tuple[str, ...]
    only_for: Mapping[str, object] = field(default_factory=dict)
    not_for: Mapping[str, object] = field(default_factory=dict)

    def holds(self, settings: Mapping[str, Any]) -> bool:
        """Whether it is true of a model with that `quantization_config`."""
        excluded = bool(self.not_for) and _says(settings, self.not_for)
        return not excluded and _says(settings, self.only_for)


def _says(settings: Mapping[str, Any], fields: Mapping[str, object]) -> bool:
    return all(settings.get(name) == value for name, value in fields.items())


FP8_BLOCKS = UndecodedNames(("_scale_inv",), not_for={"weight_block_size": [32, 32], "scale_fmt": "ue8m0"})
"""Blocks of fp8, but for those that MLX has a form for."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Consumer:
    """A program that loads what is written.

    Attributes:
        name: what reports and tables call it.
        layout_name: what `--layout` calls it.
        role: how `--layout` leads to it.
        output_suffix: what the name of a result ends in that the user gave none: "MLX" for `X-MLX`.
        format: what the `format` of a safetensors header promises to this program: "mlx" for its own names
            and layouts, "pt" for the hub's.
        table_folder: the folder in `wconv/consumers` whose `tables/<model_type>.toml` are its layouts.
        recognisable: of these the model types that their tensors' names tell where there is no config.json.
        tables: its layouts that are written in Python, one for each kind of model.
        families: its models of several components.
        command: loads a model of which no table says more; `{model}` stands for its path.
        pipeline_command: loads any directory that has a model_index.json; "" where the program cannot.
        file_stem: how the names of weights files begin in its directories, where it is not the hub's way.
        header_field: what the headers of files say that it has written itself; "" where they do not.
        substitutes: dtypes that it cannot hold, and what is written for them.
        schemes: the names of quantization schemes that it takes as they are (`wconv.quantized.schemes`).
        quantization_configs: how it is known to decode weights that other programs quantized.
        undecoded: names that show weights in forms that its loader does not decode.
        quantization: what its converter quantizes, and how; None where it reads no quantized models.
        known_models: the model types that its command is known to take; None where nothing is known.
        ignores_case: whether it takes `model_type` in capitals, too.
        without_text: whether its command is for models that generate no text, too.
        multimodal_fields: fields of config.json that make it the likelier program of those that know a model.
        cast_rules: which tensors it keeps from a cast, for models without a table.
        config_makers: what `Layout.config` may name.
        tensor_makers: by the same names: tensors that it keeps among the weights, and others do not.
        adapter_naming: what its adapters are called; None where it has none of its own.
        adapter_namings: family of models → where it calls their adapters otherwise.
        needs: what it looks for in a model's directory; None where that is not known.
        takes_language_adapters: whether it reads the adapters of language models in mlx-lm's form.
        package: what `pip` calls it, and the module that it is.
        loader: loads a directory with the program itself and runs one forward pass; None where that is not
            known here.
    """

    name: str
    layout_name: str
    role: Role = "automatic"
    output_suffix: str = "MLX"
    format: Literal["mlx", "pt"] = "mlx"
    table_folder: str = ""
    recognisable: tuple[str, ...] = ()
    tables: Callable[[], tuple[Layout, ...]] = tuple
    families: Callable[[], tuple[ComponentFamily, ...]] = tuple
    command: str = ""
    pipeline_command: str = ""
    file_stem: str = ""
    header_field: str = ""
    substitutes: tuple[Substitute, ...] = ()
    schemes: frozenset[str] = frozenset()
    quantization_configs: QuantizationConfigs = field(default_factory=QuantizationConfigs)
    undecoded: tuple[UndecodedNames, ...] = (FP8_BLOCKS,)
    quantization: Callable[[], QuantizationTable] | None = None
    known_models: Callable[[], KnownModels] | None = None
    ignores_case: bool = False
    without_text: bool = False
    multimodal_fields: tuple[str, ...] = ()
    cast_rules: Callable[[], CastRules] | None = None
    config_makers: Callable[[], Mapping[str, ConfigMaker]] = dict
    tensor_makers: Callable[[], Mapping[str, TensorMaker]] = dict
    adapter_naming: Naming | None = None
    adapter_namings: Mapping[str, Naming] = field(default_factory=dict)
    takes_language_adapters: bool = False
    needs: Needs | None = None
    package: tuple[str, str] = ("", "")
    loader: Callable[[], Loader] | None = None

    def __repr__(self) -> str:
        return f"<Consumer {self.name}>"

    @property
    def reads_layer_settings(self) -> bool:
        """Whether config.json tells it how each layer is quantized, so that layers may differ."""
        return self.quantization is not None and self.quantization().fixed is None

    def naming_of(self, family: str) -> Naming | None:
        """What it calls adapters of a family's models."""
        return self.adapter_namings.get(family, self.adapter_naming)
