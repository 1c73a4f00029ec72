"""Raw configs (mappings, lists and scalars, as read from YAML) walked along the models that validate them."""

from collections.abc import Iterator
from dataclasses import dataclass
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic.fields import FieldInfo

from hjepa.config import registry
from hjepa.config.core import ConfigError, ConfigModel
from hjepa.config.schema import LEVEL_SLOTS, RunConfig
from hjepa.config.slots import Slot, default_kind

Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]
Mapping = dict[str, Json]


@dataclass(frozen=True)
class Content:
    """What a field holds: a section of fixed shape or an implementation of a slot; one, or a list of them."""

    model: type[ConfigModel] | None = None
    slot: str | None = None
    many: bool = False

    def model_of(self, value: Mapping) -> type[ConfigModel] | None:
        """The model that will validate `value`; None where its kind is missing or unknown."""
        if self.slot is None:
            return self.model
        kind = value.get("kind")
        try:
            return registry.config_class(self.slot, kind) if isinstance(kind, str) else None
        except ConfigError:
            return None


def content(field: FieldInfo) -> Content:
    """What a field holds."""
    return _content(field.annotation, tuple(field.metadata))


def _content(annotation: Any, metadata: tuple[Any, ...]) -> Content:
    slot = next((item.name for item in metadata if isinstance(item, Slot)), None)
    if slot is not None:
        return Content(slot=slot)
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _content(arguments[0], tuple(arguments[1:]))
    if origin is tuple:
        item = _content(arguments[0], ())
        return Content(item.model, item.slot, many=item != Content())
    if origin in (Union, UnionType):
        return _content(next(part for part in arguments if part is not type(None)), ())
    if isinstance(annotation, type) and issubclass(annotation, ConfigModel):
        return Content(annotation)
    return Content()


def children(model: type[ConfigModel], value: Mapping) -> Iterator[tuple[str, Content, Mapping]]:
    """The mappings inside a mapping that have a model of their own, by field name."""
    for name, field in model.model_fields.items():
        held, inner = content(field), value.get(name)
        if held.model is None and held.slot is None:
            continue
        for item in inner if held.many and isinstance(inner, list) else [inner]:
            if isinstance(item, dict):
                yield name, held, item


def name_kinds(root: Mapping) -> None:
    """Write down, in place, the default kind of every mapping in a slot that names none."""
    for slot in LEVEL_SLOTS:
        root.setdefault(slot, {})
    _name_kinds(RunConfig, root, root)


def _name_kinds(model: type[ConfigModel], value: Mapping, root: Mapping) -> None:
    for name, held, inner in children(model, value):
        if held.slot is not None and "kind" not in inner:
            kind = default_kind(model.model_fields[name].default_factory)
            top = root.get(name)
            if kind is None and isinstance(top, dict):
                kind = top.get("kind")
            if kind is not None:
                inner["kind"] = kind
        inner_model = held.model_of(inner)
        if inner_model is not None:
            _name_kinds(inner_model, inner, root)


def merge(base: Json, new: Json) -> Json:
    """`new` over `base`: mappings are merged, but a new kind replaces the mapping; all else is replaced."""
    if not (isinstance(base, dict) and isinstance(new, dict)):
        return new
    if "kind" in new and new["kind"] != base.get("kind"):
        return new
    return base | {key: merge(base.get(key), value) for key, value in new.items()}


def model_at(
    root: Mapping, path: tuple[str | int, ...], root_model: type[ConfigModel] = RunConfig
) -> type[ConfigModel] | None:
    """The model of the mapping at a path; None where there is none."""
    model: type[ConfigModel] | None = root_model
    value: Json = root
    held = Content()
    for part in path:
        if isinstance(part, str):
            field = model.model_fields.get(part) if model is not None else None
            held = content(field) if field is not None else Content()
        value = _item(value, part)
        model = held.model_of(value) if isinstance(value, dict) else None
    return model


def _item(value: Json, part: str | int) -> Json:
    """An item of a mapping or a list; None where there is none."""
    if isinstance(value, dict) and isinstance(part, str):
        return value.get(part)
    return value[part] if isinstance(value, list) and isinstance(part, int) and part < len(value) else None
