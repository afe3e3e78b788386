"""The signature of a model's function, which says what acts on the model; read from its source.

Some parameters are filled from other groups (`MAPPED`), `image_size` and `classes` from the data, `weights` and `arch`
from keys of `model`. Each other one is an option of the model, `model.options.NAME`, with the type that it is annotated
with. An annotation may carry a fact: `image_size: Annotated[int, "7 * kernel_size - 3"]` is the smallest image, an
expression in the other parameters; `aux_weight: Annotated[float, "mixed7"]` the block of a base that the auxiliary
classifier sits on.
"""

import ast
from collections.abc import Mapping
from dataclasses import dataclass, field, make_dataclass
from difflib import get_close_matches
from typing import Any, Optional

from omegaconf import MISSING, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from beans_exp.errors import ConfigError, first_line
from beans_exp.schema.python_source import find_function
from beans_exp.schema.rules import shown

MAPPED = {
    "reg.dropout": "dropout",
    "reg.aux_weight": "aux_weight",
    "kernel.size": "kernel_size",
    "kernel.filters": "filters",
    "kernel.factorized": "factorized",
}
"""Keys of other groups, and the parameters that they are passed as."""
GIVEN = ("image_size", "classes", "weights", "arch")
TYPES = {"int": int, "float": float, "bool": bool, "str": str}


@dataclass(frozen=True)
class Parameter:
    """A parameter of a function."""

    name: str
    type: Any
    """A type that OmegaConf checks; Any where the annotation is another one."""
    default: Any
    """`MISSING` without one."""
    fact: str | None
    """The literal in `Annotated[type, fact]`."""


@dataclass(frozen=True)
class Signature:
    """The parameters of the function `build`, by name."""

    build: str
    parameters: Mapping[str, Parameter]

    def takes(self, name: str) -> bool:
        """Whether the function has a parameter `name`."""
        return name in self.parameters

    def fact(self, name: str) -> str | None:
        """Return the fact that the annotation of `name` carries, None without one."""
        return self.parameters[name].fact if name in self.parameters else None

    @property
    def options(self) -> list[Parameter]:
        """The parameters that are keys of `model.options`."""
        filled = (*GIVEN, *MAPPED.values())
        return [parameter for name, parameter in self.parameters.items() if name not in filled]

    def checked(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Return the options `given`, converted to their types, with defaults for the others.

        Unknown ones stay as they are. Raises ConfigError for a value of another type, and for one that is missing.
        """
        known = {parameter.name: parameter for parameter in self.options}
        values = {name: self._typed(parameter, given.get(name, parameter.default)) for name, parameter in known.items()}
        return values | {name: value for name, value in given.items() if name not in known}

    def _typed(self, parameter: Parameter, value: Any) -> Any:
        key = f"model.options.{parameter.name}"
        if value == MISSING:
            raise ConfigError(f"{key}: must be given: {self.build} has no default for it")
        schema = make_dataclass("Options", [(parameter.name, parameter.type, field(default=MISSING))])
        try:
            typed = OmegaConf.merge(OmegaConf.structured(schema), {parameter.name: value})
            return OmegaConf.to_container(typed)[parameter.name]  # type: ignore[call-overload,index]
        except OmegaConfBaseException as error:
            annotated = str(parameter.type).removeprefix("<class '").removesuffix("'>").removeprefix("typing.")
            rule = f"{annotated}, as {self.build} annotates it"
            raise ConfigError(f"{key}={shown(value)}: must be {rule} ({first_line(error)})") from error

    def why_unknown(self, option: str) -> str:
        """Return why `model.options` has no key `option`, a phrase that follows the model."""
        known = [parameter.name for parameter in self.options]
        close = get_close_matches(option, known, n=1)
        hint = f"; did you mean {close[0]}?" if close else f" (it takes {', '.join(known)})" if known else ""
        return f"does not take {option}{hint}"


def read_signature(build: str) -> Signature:
    """Return the signature of `build`, such as `my_nets.leafnet`.

    Raises ConfigError for a function that does not exist, and for parameters that no configuration can fill.
    """
    _, function = find_function(build)
    arguments = function.args
    if arguments.vararg or arguments.kwarg or arguments.posonlyargs:
        rule = "a function whose parameters all have names: without *args, **kwargs and /, which would hide what acts"
        raise ConfigError(f"model.build={build}: must be {rule}")
    positional = arguments.args
    defaults = [*[None] * (len(positional) - len(arguments.defaults)), *arguments.defaults, *arguments.kw_defaults]
    pairs = zip([*positional, *arguments.kwonlyargs], defaults, strict=True)
    found = {argument.arg: _parameter(argument, default, build) for argument, default in pairs}
    if "image_size" not in found:
        raise ConfigError(f"model.build={build}: must be a function with a parameter image_size")
    return Signature(build, found)


def _parameter(argument: ast.arg, default: ast.expr | None, build: str) -> Parameter:
    fact, annotation = None, argument.annotation
    if isinstance(annotation, ast.Subscript) and _name(annotation.value) == "Annotated":
        assert isinstance(annotation.slice, ast.Tuple)
        annotation, note = annotation.slice.elts[:2]
        fact = str(note.value) if isinstance(note, ast.Constant) else None
    try:
        value = MISSING if default is None else ast.literal_eval(default)
    except ValueError as error:
        rule = "a literal, which can be read without importing the module"
        raise ConfigError(f"model.build={build}: the default of {argument.arg} must be {rule}") from error
    return Parameter(argument.arg, _type(annotation), list(value) if isinstance(value, tuple) else value, fact)


def _type(annotation: ast.expr | None) -> Any:
    """The type that OmegaConf checks for an annotation."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return _type(ast.parse(annotation.value, mode="eval").body)
    if isinstance(annotation, ast.BinOp) and isinstance(annotation.op, ast.BitOr):
        sides = [side for side in (annotation.left, annotation.right) if not _is_none(side)]
        return Optional[_type(sides[0])] if len(sides) == 1 else Any  # noqa: UP045  X | None fails for Any
    if isinstance(annotation, ast.Subscript):
        inner = annotation.slice.elts[0] if isinstance(annotation.slice, ast.Tuple) else annotation.slice
        if _name(annotation.value) == "Optional":
            return Optional[_type(inner)]  # noqa: UP045
        if _name(annotation.value) in ("list", "tuple", "List", "Tuple", "Sequence"):
            return list[_type(inner)]  # type: ignore[misc]
    return TYPES.get(_name(annotation), Any)


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _name(node: ast.expr | None) -> str:
    """The last part of a dotted name; empty for other expressions."""
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def smallest_image(signature: Signature, arguments: Mapping[str, Any]) -> tuple[int, list[str]]:
    """Return the smallest `image_size` that the function takes beside `arguments`, and the parameters it depends on."""
    expression = signature.fact("image_size") or "1"
    names = [node.id for node in ast.walk(ast.parse(expression)) if isinstance(node, ast.Name)]
    return int(eval(expression, {"__builtins__": {}}, dict(arguments))), names  # noqa: S307  the source of the model
