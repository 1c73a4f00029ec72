"""Config fields that hold any implementation of a slot, told apart by `kind`."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, ValidationError
from pydantic.fields import FieldInfo
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

from hjepa.config import registry
from hjepa.config.core import ConfigError, ModuleConfig


@dataclass(frozen=True)
class Slot:
    """Marks a field as a slot: `critic: Annotated[ModuleConfig, Slot("critic")] = choose("critic", "td")`.

    The mapping in the field is validated by the `Config` of the implementation that its `kind` names, which
    the registry finds; errors keep their whole path.
    """

    name: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        """Called by pydantic."""
        return core_schema.with_info_plain_validator_function(
            self._validate,
            serialization=core_schema.plain_serializer_function_ser_schema(_dump, info_arg=True),
        )

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        """Called by pydantic; `hjepa.config.json_schema` puts the implementations in its place."""
        return {"slot": self.name}

    def _validate(self, value: Any, info: core_schema.ValidationInfo) -> ModuleConfig:
        if isinstance(value, FieldInfo):  # `choose` inside a default, as in a tuple of drives
            value = value.get_default(call_default_factory=True, validated_data={})
        if isinstance(value, ModuleConfig):
            if value.slot != self.name:
                raise PydanticCustomError(
                    "wrong_slot", "is a {slot}, not a {name}", {"slot": value.slot, "name": self.name}
                )
            return value
        if not isinstance(value, dict):
            raise PydanticCustomError("slot_mapping", "must be a mapping with the kind of {name}", {"name": self.name})
        config_class = self._config_class(value)
        if info.mode == "json":
            return config_class.model_validate_json(json.dumps(value))
        return config_class.model_validate(value)

    def _config_class(self, value: dict[str, Any]) -> type[ModuleConfig]:
        kind = value.get("kind")
        if not isinstance(kind, str):
            raise _at_kind(f"must name a {self.name}", f"there are {', '.join(registry.kinds(self.name))}", kind)
        try:
            return registry.config_class(self.name, kind)
        except registry.UnknownKindError as error:
            raise _at_kind(error.message, error.hint, kind) from error
        except ConfigError as error:
            raise _at_kind(str(error), "", kind) from error


def choose(slot: str, kind: str, **fields: Any) -> Any:
    """Default of a slot's field: `kind`, with `fields` over its own defaults; made when it is asked for."""
    return Field(default_factory=Default(slot, kind, fields))


@dataclass(frozen=True)
class Default:
    """Makes the default of a slot's field when it is asked for, so that no file is read before."""

    slot: str
    kind: str
    fields: dict[str, Any]

    def __call__(self) -> ModuleConfig:
        return registry.config_class(self.slot, self.kind)(**self.fields)


def default_kind(factory: Callable[..., Any] | None) -> str | None:
    """The kind a slot's field has where a mapping names none."""
    return factory.kind if isinstance(factory, Default) else None


def _dump(value: ModuleConfig, info: core_schema.SerializationInfo) -> dict[str, Any]:
    return value.model_dump(mode=info.mode)


def _at_kind(message: str, hint: str, value: object) -> ValidationError:
    """An error one step deeper, at the slot's `kind`."""
    error = PydanticCustomError("unknown_kind", "{message}", {"message": message, "hint": hint})
    return ValidationError.from_exception_data("Slot", [InitErrorDetails(type=error, loc=("kind",), input=value)])


def number_repeats(kinds: list[str]) -> tuple[str, ...]:
    """Names that differ: the second of a kind gets the suffix _2, the third _3."""
    counts = [kinds[: index + 1].count(kind) for index, kind in enumerate(kinds)]
    return tuple(kind if count == 1 else f"{kind}_{count}" for kind, count in zip(kinds, counts, strict=True))
