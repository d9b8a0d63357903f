"""A function of the library as a command: options from its signature, their texts from its
docstring, a bar while it works, and its result shown by its type.
"""

from __future__ import annotations

import importlib
import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from cyclopts import Parameter
from cyclopts.validators import Number

from pomona.cli.output import Format, Out, show_result
from pomona.cli.progress import working

Flag = Annotated[bool, Parameter(show_default=False)]
Inputs = Annotated[list[str], Parameter(help="Files, globs, dataset folders or s3:// addresses.")]
Engine = Annotated[
    Literal["native", "ray"], Parameter(help="native, or ray: the work is spread over a cluster.")
]
Count = Annotated[int | None, Parameter(validator=Number(gte=1))]

# What a name means on every command line, whatever more its parameter takes in Python.
COMMON: dict[str, Any] = {"inputs": Inputs, "engine": Engine, "threads": Count, "out": Path}


class Options:
    """How a function's parameters become options, where its signature does not say it."""

    def __init__(
        self,
        *,
        positional: int = 1,
        hidden: str = "",
        names: Mapping[str, str] | None = None,
        kinds: Mapping[str, Any] | None = None,
        groups: Mapping[str, str] | None = None,
        inverted: Mapping[str, tuple[str, str]] | None = None,
        more: Mapping[str, tuple[str, str]] | None = None,
    ) -> None:
        """The first `positional` parameters are arguments.

        Args:
            positional: Number of parameters that are arguments.
            hidden: Parameters that are for Python alone; `format` where only a line is shown.
            names: Options whose name is not that of the parameter.
            kinds: Types of options that stand in for those of the signature.
            groups: Parameters of a group of options, by its title; without defaults in its help.
            inverted: The flag that turns a parameter off, and its text.
            more: Groups that stand for `**others`: a function and those of its parameters.
        """
        self.positional, self.hidden = positional, {"progress", *hidden.split()}
        self.names = names or {}
        self.kinds = {**COMMON, **(kinds or {})}
        self.inverted, self.more = inverted or {}, more or {}
        self.groups = {
            name: title for title, names in (groups or {}).items() for name in names.split()
        }


class Command:
    # Has no docstring of its own: `__doc__` is that of the command, as cyclopts shows it. All that
    # cyclopts reads is found when it reads it, so that `pomona data dedup` does not wait for the
    # modules of its neighbours.
    def __init__(
        self,
        home: str,
        doing: str | None = None,
        options: Options | None = None,
        show: Callable[[Out, Any, Mapping[str, Any]], int | None] = show_result,
    ) -> None:
        self.home, self.doing, self.options, self.show = home, doing, options or Options(), show
        self.__name__ = home.rpartition(":")[2]
        # What is its own cyclopts does not check when it is added. To check ours it would read the
        # signature, and with it come the modules of commands that nobody asked for.
        self.__module__ = "cyclopts"

    @property
    def __doc__(self) -> str:  # pyright: ignore[reportIncompatibleVariableOverride]
        return summary(imported(self.home))

    @cached_property
    def __signature__(self) -> inspect.Signature:
        return inspect.Signature(_parameters(imported(self.home), self.options))

    @property
    def __annotations__(self) -> dict[str, Any]:  # pyright: ignore[reportIncompatibleVariableOverride]
        return {p.name: p.annotation for p in self.__signature__.parameters.values()}

    def __call__(self, *arguments: Any, format: Format = "human", **given: Any) -> int | None:
        """Call the function with what was given, while a bar says what it is doing, and show its
        result.
        """
        function, options = imported(self.home), self.options
        for name, (flag, _) in options.inverted.items():
            if flag in given:
                given[name] = not given.pop(flag)
        given = {**{name: given.pop(o) for name, o in options.names.items() if o in given}, **given}
        bound = inspect.signature(function).bind_partial(*arguments, **given)
        given = {**bound.arguments, **given}
        if self.doing is None:
            return self.show(Out(format), function(*bound.args, **bound.kwargs), given)
        with working(self.doing.format_map(given)) as progress:
            result = function(*bound.args, **bound.kwargs, progress=progress)
        return self.show(Out(format), result, given)


def imported(home: str) -> Callable[..., Any]:
    """The function at `MODULE:NAME`."""
    module, _, name = home.partition(":")
    return getattr(importlib.import_module(module), name)


def summary(function: Callable[..., Any]) -> str:
    """The first paragraph of a function's docstring."""
    return (inspect.getdoc(function) or "").split("\n\n")[0]


def texts(function: Callable[..., Any]) -> dict[str, str]:
    """What the section `Args:` of a docstring says of each parameter."""
    from docstring_parser import DocstringStyle, parse

    parsed = parse(inspect.getdoc(function) or "", DocstringStyle.GOOGLE)
    return {p.arg_name: " ".join((p.description or "").split()) for p in parsed.params}


def _parameters(function: Callable[..., Any], options: Options) -> list[inspect.Parameter]:
    made = _options(function, options, options.positional)
    for title, (other, names) in options.more.items():
        group = Options(kinds=options.kinds, groups={title: names})
        made += [
            option for option in _options(imported(other), group, 0) if option.name in names.split()
        ]
    if "format" in options.hidden:
        return made
    format_ = inspect.Parameter(
        "format", inspect.Parameter.KEYWORD_ONLY, default="human", annotation=Format
    )
    return [*made, format_]


def _options(
    function: Callable[..., Any], options: Options, positional: int
) -> list[inspect.Parameter]:
    documented = texts(function)
    made: list[inspect.Parameter] = []
    for place, (name, parameter) in enumerate(inspect.signature(function).parameters.items()):
        if name in options.hidden or parameter.kind is inspect.Parameter.VAR_KEYWORD:
            continue
        text, default, title = documented.get(name), parameter.default, options.groups.get(name)
        name = options.names.get(name, name)
        if name in options.inverted:
            name, text = options.inverted[name]
            kind, default = Flag, False
        else:
            kind = options.kinds.get(name) or _plain(_annotation(function, parameter))
        told: dict[str, Any] = {"help": text} if text else {}
        if title is not None or isinstance(default, tuple) or kind is Flag:
            told["show_default"] = False
        if title:
            told["group"] = title
        made.append(
            inspect.Parameter(
                name,
                inspect.Parameter.POSITIONAL_ONLY
                if place < positional
                else inspect.Parameter.KEYWORD_ONLY,
                default=default,
                annotation=Annotated[
                    kind,
                    Parameter(**told),
                ],
            )
        )
    return made


def _annotation(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """A parameter's type. The library's annotations are text, and some names in them are known to
    type checkers alone: only what becomes an option is read.
    """
    return eval(parameter.annotation, inspect.unwrap(function).__globals__)


def _plain(kind: Any) -> Any:
    """The type of an option for a parameter's: one path, number or text where several will do."""
    if kind is bool:
        return Flag
    if get_origin(kind) in (types.UnionType, Union):
        kinds = [_plain(one) for one in get_args(kind)]
        for wanted in (Path, str):
            if wanted in kinds:
                kinds = [one for one in kinds if one in (wanted, types.NoneType)]
        return Union[tuple(kinds)]  # noqa: UP007
    if get_origin(kind) is Sequence:
        return list[_plain(get_args(kind)[0])]
    return kind


def given(*groups: Any, **options: Any) -> dict[str, Any]:
    """The options that are not None, those of groups (dataclasses, or None) among them."""
    options_given = {
        field.name: getattr(group, field.name)
        for group in groups
        if group is not None
        for field in fields(group)
    }
    return {
        name: value for name, value in {**options_given, **options}.items() if value is not None
    }
