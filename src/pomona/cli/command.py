"""A function of the library as a command: options from its signature, their texts from its
docstring, a bar while it works, and its result shown by its type.
"""

from __future__ import annotations

import importlib
import inspect
import os
import sys
import types
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from cyclopts import Parameter
from cyclopts.validators import Number

from pomona.cli.errors import tell
from pomona.cli.output import Format, Out, show_result
from pomona.cli.progress import working
from pomona.errors import LateTypesError, PomonaError, quantity
from pomona.places import check_outputs

Flag = Annotated[bool, Parameter(show_default=False)]
Inputs = Annotated[list[str], Parameter(help="Files, globs, dataset folders or s3:// addresses.")]
Engine = Annotated[
    Literal["native", "ray"], Parameter(help="native, or ray: the work is spread over a cluster.")
]
Count = Annotated[int | None, Parameter(validator=Number(gte=1))]
Seed = Annotated[int | None, Parameter(validator=Number(gte=0))]

_POLICY = ("on_error", "rejects")  # options of commands, whatever function is called

# What a name means on every command line, whatever more its parameter takes in Python.
COMMON: dict[str, Any] = {
    "inputs": Inputs,
    "engine": Engine,
    "threads": Count,
    "seed": Seed,
    "out": str,
}


@dataclass(frozen=True)
class Made:
    """A parameter that is an object in Python: on a command line the options of what makes it.

    Where one of them is given, `home` is called with them, and what it returns is entered if it
    is a context. `kept` only collects them, for a parameter that takes a mapping. `shared` are
    options of the command itself that it is called with too, and `always` calls it with these alone
    where none of its own is given.
    """

    home: str
    groups: Mapping[str, str]  # parameters of a group of options, by its title
    prefix: str = ""
    kept: bool = False
    shared: str = ""
    always: bool = False

    def take(self, given: dict[str, Any], stack: ExitStack) -> Any:
        """The object, its options taken out of `given`; None without any."""
        names = " ".join(self.groups.values()).split()
        parts = {
            name: given.pop(self.prefix + name) for name in names if self.prefix + name in given
        }
        if self.kept or not (parts or self.always):
            return parts or None
        parts |= {name: given[name] for name in self.shared.split() if name in given}
        value = imported(self.home)(**parts)
        return stack.enter_context(value) if hasattr(value, "__enter__") else value


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
        defaults: bool = True,
        inverted: Mapping[str, tuple[str, str]] | None = None,
        more: Mapping[str, tuple[str, str]] | None = None,
        made: Mapping[str, Made] | None = None,
        instead: Mapping[str, tuple[str, str]] | None = None,
        chosen: Mapping[str, str] | None = None,
        missing: Mapping[str, PomonaError] | None = None,
        tables: str = "inputs",
        opened: Mapping[str, str] | None = None,
    ) -> None:
        """The first `positional` parameters are arguments.

        Args:
            positional: Number of parameters that are arguments.
            hidden: Parameters that are for Python alone; `format` where only a line is shown.
            names: Options whose name is not that of the parameter.
            kinds: Types of options that stand in for those of the signature.
            groups: Parameters of a group of options, by its title.
            defaults: Whether the help of groups shows defaults.
            inverted: The flag that turns a parameter off, and its text.
            more: Groups that stand for `**others`: a function and those of its parameters.
            made: Parameters that are made of options.
            instead: Flags with which another function is called, with what it takes of the
                arguments; and their texts.
            chosen: Options with which another function is called, of whose options they are one;
                the others of these are for it alone.
            missing: Arguments that not all functions of `instead` need: what is raised without.
            tables: Parameters that are tables, with options for rows that are malformed; "*" where
                the function opens tables by itself, at whatever place they are named.
            opened: Parameters of which the word is opened by a function of another room.
        """
        self.positional, self.names, self.defaults = positional, names or {}, defaults
        self.kinds = {**COMMON, **(kinds or {})}
        self.inverted, self.more, self.made = inverted or {}, more or {}, made or {}
        self.instead, self.missing, self.tables = instead or {}, missing or {}, tables.split()
        self.opened, self.chosen = opened or {}, chosen or {}
        self.hidden = {"progress", *hidden.split(), *self.made}
        self.groups = {
            name: title for title, names in (groups or {}).items() for name in names.split()
        }


Shown = Callable[[Out, Any, Mapping[str, Any]], int | None]
Bar = Callable[[], AbstractContextManager[Any]]


class Command:
    # Has no docstring of its own: `__doc__` is that of the command, as cyclopts shows it. All that
    # cyclopts reads is found when it reads it, so that `pomona data dedup` does not wait for the
    # modules of its neighbours.
    def __init__(
        self,
        home: str,
        doing: str | Bar | None = None,
        options: Options | None = None,
        show: Shown = show_result,
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

    def __call__(self, *arguments: Any, format: Format = "human", **options: Any) -> int | None:
        """Call the function with what was given, while a bar says what it is doing, and show its
        result. A mistake in a parameter is told with the name of its option.
        """
        try:
            try:
                return self._called(arguments, Out(format), options)
            except LateTypesError as error:
                tell(f"{error.where}: {error.message}; all rows are looked at for their types now")
                with imported("pomona.records:types_of_all_rows")():
                    return self._called(arguments, Out(format), options)
        except PomonaError as error:
            names = {name: option for option, name in self._own_names().items()}
            option = names.get(str(error.where), str(error.where))
            if option in options and option not in map(str, options.values()):  # a path called so
                error.where = f"--{option.replace('_', '-')}"
            raise

    def _called(self, arguments: Sequence[Any], out: Out, options: Mapping[str, Any]) -> int | None:
        function, doing, given = imported(self.home), self.doing, self._named(arguments, options)
        dry_run = bool(given.get("dry_run"))
        for flag, (home, _) in self.options.instead.items():
            if given.pop(flag, False):
                function, doing = imported(home), None
                takes = inspect.signature(function).parameters
                takes = {*takes, *_POLICY}
                given = {name: value for name, value in given.items() if name in takes}
        opened = self.options.opened
        for option, home in self.options.chosen.items():
            if given.get(option) is not None:
                function, opened = imported(home), {}
        if self.options.chosen:
            takes = inspect.signature(function).parameters
            doing = doing if "progress" in takes else None
            _refuse_options(given, takes, self.options.chosen)
        given = _read(given, self.options.tables, inspect.signature(function).parameters)
        for name, error in self.options.missing.items():
            if given.get(name) is None and name in inspect.signature(function).parameters:
                raise error
        with ExitStack() as stack:
            told = None
            if "*" in self.options.tables:
                told = stack.enter_context(_opening(given, dry_run))
            _open(given, opened)
            for name, made in self.options.made.items():
                if (value := made.take(given, stack)) is not None:
                    given[name] = value
            result = _done(function, doing, given)
            if told is not None and hasattr(result, "wait"):
                told()  # a server's end is long after
            return self.show(out, result, given)

    def _own_names(self) -> dict[str, str]:
        """Parameters whose option has another name, by that."""
        own = {option: name for name, option in self.options.names.items()}
        return own | {flag: name for name, (flag, _) in self.options.inverted.items()}

    def _named(self, arguments: Sequence[Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """What was given, by the names of the function's own parameters."""
        options, own = self.options, self._own_names()
        flags = [flag for flag, _ in options.inverted.values()]
        places = inspect.signature(imported(self.home)).parameters
        named = dict(zip(places, arguments, strict=False))
        return named | {
            own.get(name, name): not value if name in flags else value
            for name, value in given.items()
        }


def _done(function: Callable[..., Any], doing: str | Bar | None, given: Mapping[str, Any]) -> Any:
    """What a function gives, called while a bar says what is done where it takes one."""
    if doing is None:
        return function(**given)
    with doing() if callable(doing) else working(doing.format_map(given)) as progress:
        return function(**given, progress=progress)


def _refuse_options(
    given: Mapping[str, Any], takes: Mapping[str, Any], chosen: Mapping[str, str]
) -> None:
    """Raise PomonaError for an option that the function has not which the others choose."""
    for name in given:
        if name not in takes and name not in _POLICY:
            marks = " or ".join(f"--{option}" for option in chosen)
            without = "with" if any(given.get(option) for option in chosen) else "without"
            message, remedy = f"means nothing {without} {marks}", "leave it out"
            raise PomonaError(message, where=f"--{name.replace('_', '-')}", remedy=remedy)


def _read(
    given: Mapping[str, Any], tables: Sequence[str], takes: Mapping[str, Any]
) -> dict[str, Any]:
    """What was given, with tables read as the options for malformed rows say, where they do. A
    function that takes a file of rejects has malformed rows beside it.
    """
    given = dict(given)
    if "*" in tables:
        return given
    policy, rejects = given.pop("on_error", "stop"), given.get("rejects")
    if "rejects" not in takes:
        given.pop("rejects", None)
    elif rejects is not None:
        rejects = None if policy != "reject" else Path(rejects).with_suffix(".malformed.jsonl")
    if policy == "stop" and rejects is None:
        return given
    from pomona.records import read

    if given.get("dry_run") and policy == "reject" and rejects is not None:
        policy, rejects = "drop", None
    for place, name in enumerate(tables):
        if given.get(name) is not None:
            file = rejects and Path(rejects)
            if file and place:
                file = file.with_name(f"{file.stem}.{name}{file.suffix}")
            if file:
                _refuse_output(file, given)
            given[name] = read(given[name], on_error=policy, rejects=file)
    return given


def _open(given: dict[str, Any], opened: Mapping[str, str]) -> None:
    """Put what a word stands for in its place, where a function of another room opens it."""
    for name, home in opened.items():
        if given.get(name) is not None:
            given[name] = imported(home)(given[name])


@contextmanager
def _opening(given: dict[str, Any], dry_run: bool) -> Iterator[Callable[[], None]]:
    """A block in which tables are opened as the options for malformed rows say, which are taken out
    of `given`; what was left out is told at its end, or when what it yields is called.
    """
    policy, rejects = given.pop("on_error", "stop"), given.pop("rejects", None)
    if policy == "stop" and rejects is None:
        yield lambda: None
        return
    from pomona.records import malformed_rows

    if policy == "stop":
        remedy = "add --on-error reject"
        raise PomonaError("rows are rejected where that is said", where="--rejects", remedy=remedy)

    if rejects is not None:
        _refuse_output(Path(rejects), given)
    if dry_run and policy == "reject" and rejects is not None:
        policy, rejects = "drop", None
    names, told = {str(value): name for name, value in given.items()}, dict[str, int]()

    def tell_left_out() -> None:
        for where, rows in opened.left_out.items():
            if rows and told.get(where) != rows:
                tell(f"left out of {where}: {quantity(rows, 'row')}, malformed or without a value")
                told[where] = rows

    with malformed_rows("reject" if policy == "reject" else "drop", rejects, names) as opened:
        yield tell_left_out
    tell_left_out()


def _refuse_output(rejects: Path, given: Mapping[str, Any]) -> None:
    """Raise PomonaError when rejects would be written to another output: here, since they are
    written as soon as the tables are read.
    """
    out = given.get("out", given.get("folder"))
    outputs = {"--out": out}
    outputs |= {f"--{name}": given.get(name) for name in ("pairs", "store", "work", "index")}
    # --out may be a folder; in a file nothing lies.
    folders = [name for name in ("--out", "--work", "--index") if outputs[name] is not None]
    check_outputs({**outputs, "--rejects": rejects}, folders=folders)
    if os.path.realpath(rejects).startswith(f"{os.path.realpath(str(out))}."):
        remedy = "write --rejects to another path"
        raise PomonaError("has a name of what goes with --out", where=rejects, remedy=remedy)


def imported(home: str) -> Callable[..., Any]:
    """The function at `MODULE:NAME`. A PomonaError when something that it imports is missing."""
    module, _, name = home.partition(":")
    try:
        return attrgetter(name)(importlib.import_module(module))
    except ModuleNotFoundError as error:
        if error.name is None or error.name.startswith("pomona"):
            raise
        raise PomonaError(
            f"{error.name} is not installed", remedy="`pomona doctor` says what to install"
        ) from error


def summary(function: Callable[..., Any]) -> str:
    """The first paragraph of a function's docstring."""
    return (inspect.getdoc(function) or "").split("\n\n")[0]


def texts(function: Callable[..., Any]) -> dict[str, str]:
    """What the section `Args:` of a docstring says of each parameter."""
    from docstring_parser import DocstringStyle, parse

    parsed = parse(inspect.getdoc(function) or "", DocstringStyle.GOOGLE)
    return {p.arg_name: " ".join((p.description or "").split()) for p in parsed.params}


def _parameters(function: Callable[..., Any], options: Options) -> list[inspect.Parameter]:
    parameters = list(_options(function, options))
    if set(options.tables) & {"*", *inspect.signature(function).parameters}:
        reading, own = imported("pomona.records:read"), inspect.signature(function).parameters
        names = [name for name in _POLICY if name not in own]
        parameters += _options(reading, options, names, "Of malformed rows")
    for title, (home, names) in options.more.items():
        parameters += _options(imported(home), options, names.split(), title)
    for made in options.made.values():
        for title, names in made.groups.items():
            parameters += _options(imported(made.home), options, names.split(), title, made.prefix)
    parameters += [_option(flag, Flag, text, False) for flag, (_, text) in options.instead.items()]
    if "format" not in options.hidden:
        parameters.append(_option("format", options.kinds.get("format", Format), None, "human"))
    return sorted(parameters, key=lambda option: (option.kind, option.default is not option.empty))


def _options(
    function: Callable[..., Any],
    options: Options,
    names: Sequence[str] | None = None,
    title: str = "",
    prefix: str = "",
) -> Iterator[inspect.Parameter]:
    """The options of a function, or of those of its parameters that are named."""
    documented, parameters = texts(function), inspect.signature(function).parameters
    own = names is None
    for place, name in enumerate(parameters if names is None else names):
        parameter = parameters[name]
        if parameter.kind is parameter.VAR_KEYWORD or (own and name in options.hidden):
            continue
        text, default = documented.get(name), parameter.default
        group = options.groups.get(name, "") if own else title
        shown = options.names.get(name, prefix + name)
        if name in options.inverted:
            shown, text = options.inverted[name]
            kind, default = Flag, False
        else:
            kind = options.kinds.get(shown) or _plain(_annotation(function, parameter))
        # A dataclass makes some defaults itself, and has a mark in their place.
        made = getattr(type(default), "__module__", "") == "dataclasses"
        default = None if made or name in {**options.missing, **options.chosen} else default
        if default is None and get_origin(kind) is not Annotated:
            kind = Union[kind, None]  # noqa: UP007
        quiet = not options.defaults and (name in options.groups or not own)
        hides = quiet or isinstance(default, tuple)
        argument = own and place < options.positional
        yield _option(shown, kind, text, default, title=group, hides=hides, argument=argument)


def _option(
    name: str,
    kind: Any,
    text: str | None,
    default: Any,
    *,
    title: str = "",
    hides: bool = False,
    argument: bool = False,
) -> inspect.Parameter:
    told: dict[str, Any] = {"help": text} if text else {}
    told |= {"show_default": False} if hides or kind is Flag else {}
    told |= {"group": title} if title else {}
    told |= {"converter": _whole} if _plain_type(kind) is int else {}
    place = inspect.Parameter.POSITIONAL_ONLY if argument else inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(
        name, place, default=default, annotation=Annotated[kind, Parameter(**told)]
    )


def _plain_type(kind: Any) -> Any:
    """A type without what is said of it, and without None."""
    kind = get_args(kind)[0] if get_origin(kind) is Annotated else kind
    kinds = [one for one in get_args(kind) if one is not types.NoneType]
    return kinds[0] if get_origin(kind) in (types.UnionType, Union) and len(kinds) == 1 else kind


def _whole(kind: Any, tokens: Sequence[Any]) -> int:
    """A whole number. cyclopts by itself would round 1.5."""
    text: str = tokens[0].value
    with suppress(ValueError, OverflowError):
        based = text.lstrip("+-")[:2].lower() in ("0x", "0o", "0b")
        number = float(text) if "." in text else int(text, 0 if based else 10)
        if number == int(number):
            return int(number)
    raise ValueError(f'"{text}" is no whole number')


def _annotation(function: Callable[..., Any], parameter: inspect.Parameter) -> Any:
    """A parameter's type. The library's annotations are text, and some names in them are known to
    type checkers alone: only what becomes an option is read.
    """
    return eval(parameter.annotation, vars(sys.modules[function.__module__]))


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
