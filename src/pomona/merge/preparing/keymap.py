"""Models with other names for the same tensors: a vision-language model and its text model share
the language backbone only; an adapter and its model, or two checkpoints, may have been written by
versions of transformers that name tensors differently.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from pomona.errors import PomonaError, nearest, quantity
from pomona.merge.preparing.adapter_files import Adapter
from pomona.merge.preparing.adapters import find_tensor
from pomona.merge.reading.parameters import pattern_of
from pomona.models import read_config
from pomona.models.tensors import (
    Stored,
    View,
    is_buffer,
    is_computed,
    is_embedding,
    is_head,
    place_of,
    role_of,
    ties,
)

_wrong = partial(PomonaError, where="key_map")
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.)")
KeyMap = Mapping[str, Mapping[str, str] | str] | str


@dataclass(frozen=True)
class RenamedModels:
    """Views by the names of the frame, what only the frame has, and the vocabulary tensors that are
    shorter than the frame's.
    """

    views: Mapping[str, View]
    frame: str
    copied: frozenset[str]
    short: Mapping[str, tuple[str, ...]] = field(default_factory=dict)  # model → tensors
    notes: tuple[str, ...] = ()


def map_names(
    views: Mapping[str, View], key_map: KeyMap, *, base: str | None = None
) -> RenamedModels:
    """Give every model the frame's names and account for every tensor of every model.

    views: by model. key_map: {model: {prefix or pattern: what it becomes in the frame} | "auto"},
        or "auto" for all models whose names differ.
    The frame is the model the result looks like: of those without a map the one with the most
    tensors, the base among equals. Raises PomonaError for maps of unknown models, prefixes that
    match nothing, tensors that no other model has, and ambiguous proposals.
    """
    frame = _frame(views, key_map, base)
    out, notes = {frame: views[frame]}, []
    for model, view in views.items():
        if model == frame:
            continue
        rule = key_map if isinstance(key_map, str) else key_map.get(model, {})
        if isinstance(rule, str):
            same = set(view.names) == set(views[frame].names)
            rule = {} if same else propose(view, views[frame], model)
            if rule:
                notes.append(
                    f'key map of "{model}": '
                    + ", ".join(f'"{old}" → "{new}"' for old, new in rule.items())
                )
        out[model] = _tied(renamed(view, rule, model), views[frame])
    copied = _account(out, frame)
    short = {model: _short(view, views[frame], copied) for model, view in out.items()}
    if copied:
        groups = Counter(_group(name) for name in copied)
        listed = ", ".join(f"{group}* ({count})" for group, count in sorted(groups.items()))
        notes.append(
            f"{quantity(len(views[frame].names) - len(copied), 'tensor')}"
            f" merged, {len(copied)} copied "
            f'from "{frame}": {listed}'
        )
    ordered = {model: out[model] for model in views}
    short = {model: names for model, names in short.items() if names}
    return RenamedModels(ordered, frame, copied, short, tuple(notes))


def _frame(views: Mapping[str, View], key_map: KeyMap, base: str | None) -> str:
    if isinstance(key_map, str) and key_map != "auto":
        raise _wrong(
            f'"{key_map}" is no key map', remedy='write "auto" or {MODEL: {PREFIX: PREFIX}}'
        )
    mapped = {} if isinstance(key_map, str) else key_map
    for model in mapped:
        if model not in views:
            raise _wrong(f'has no model "{model}"', remedy=nearest(model, views))
    left = [model for model in views if model not in mapped]
    if not left:
        raise _wrong(
            "maps every model", remedy="leave out the model whose names the result shall have"
        )
    return max(left, key=lambda model: (len(views[model].tensors), model == base))


def renamed(view: View, rule: Mapping[str, str], model: str) -> View:
    """The view with its names changed: by each pattern in the order of the rule, then by the
    longest of the prefixes that fit; other names stay. See `RenamingPattern` for what is one.

    Raises PomonaError for a pattern or prefix that no tensor has, and for two tensors that would
    get one name.
    """
    out: dict[str, Stored] = {}
    patterns = {key: pattern for key in rule if (pattern := pattern_of(key, rule[key]))}
    prefixes = [key for key in rule if key not in patterns]
    unused = set(rule)
    for name, stored in view.tensors.items():
        new = name
        for key, pattern in patterns.items():
            after = pattern.applied(new)
            if after is not None:
                new = after
                unused.discard(key)
        prefix = max((each for each in prefixes if new.startswith(each)), key=len, default=None)
        if prefix is not None:
            new = rule[prefix] + new.removeprefix(prefix)
            unused.discard(prefix)
        if new in out:
            raise _wrong(
                f'gives two tensors of "{model}" the name "{new}": "{out[new].name}" and "{name}"',
                remedy="make the prefixes longer, or the patterns narrower",
            )
        out[new] = stored
    if unused:
        key = min(unused)
        fits = "matches" if key in patterns else "begins with"
        raise _wrong(
            f'no tensor of "{model}" {fits} "{key}"',
            remedy=f"its tensors begin with {_beginnings(view)}",
        )
    return View(view.folder, out)


def propose(view: View, frame: View, model: str) -> dict[str, str]:
    """The one map of prefixes that sends every tensor of `view` to one of `frame` with its shape;
    vocabularies may differ in rows.

    Raises PomonaError when there is none, naming tensors without a partner, or several, naming
    them.
    """
    whole = _targets(view, frame, "", list(view.tensors))
    if len(whole) == 1:
        return {"": whole[0]}
    out: dict[str, str] = {}
    for group, names in _grouped(view).items():
        targets = _targets(view, frame, group, names)
        if len(targets) > 1:
            listed = ", ".join(f'"{target}"' for target in targets)
            raise PomonaError(
                f'"{group}" of "{model}" fits {listed}',
                where="key_map: auto",
                remedy=f'write key_map: {{"{model}": {{"{group}": …}}}}',
            )
        if not targets and not (ties_in(view.folder) and all(map(is_head, names))):
            raise PomonaError(
                f'finds no place for "{min(names)}" and {quantity(len(names) - 1, "more tensor")}'
                " of "
                f'"{model}" in {frame.folder}',
                where="key_map: auto",
                remedy="are these models of one family? if so, write the map out",
            )
        out |= {group: targets[0]} if targets else {}
    return out


def _targets(view: View, frame: View, prefix: str, names: list[str]) -> list[str]:
    probe = min(names, key=lambda name: (is_embedding(name) or is_head(name), name)).removeprefix(
        prefix
    )
    ends = [
        name.removesuffix(probe) for name in frame.tensors if name == probe or name.endswith(probe)
    ]
    candidates = [end for end in ends if not end or end.endswith(".")]
    return sorted(
        end
        for end in candidates
        if all(_fits(view, name, frame, end + name.removeprefix(prefix)) for name in names)
    )


def _fits(view: View, name: str, frame: View, target: str) -> bool:
    if target not in frame.tensors:
        return is_head(name) and ties_in(view.folder)
    mine, theirs = view.info(name)[1], frame.info(target)[1]
    if is_embedding(name) != is_embedding(target) or is_head(name) != is_head(target):
        return False
    return mine == theirs or ((is_embedding(name) or is_head(name)) and mine[1:] == theirs[1:])


def _tied(view: View, frame: View) -> View:
    """A model that ties its head to its embedding, beside a frame that stores both, or a head
    stored twice beside a frame that ties.
    """
    heads = [name for name in frame.tensors if is_head(name) and name not in view.tensors]
    embeddings = [name for name in view.tensors if is_embedding(name) and name in frame.tensors]
    if not ties_in(view.folder) or len(embeddings) != 1:
        return view
    spare = {name for name in view.tensors if is_head(name) and name not in frame.tensors}
    kept = {name: stored for name, stored in view.tensors.items() if name not in spare}
    return View(view.folder, {**kept, **dict.fromkeys(heads, view.tensors[embeddings[0]])})


def ties_in(folder: Path) -> bool:
    """Whether the output embedding of the model in a folder is its input embedding."""
    return ties(read_config(folder))


def _account(views: Mapping[str, View], frame: str) -> frozenset[str]:
    known = views[frame].tensors
    others = {model: view for model, view in views.items() if model != frame}
    for model, view in others.items():
        extra = sorted(name for name in view.tensors if name not in known)
        if extra:
            verb = "has" if len(extra) == 1 else "have"
            raise _wrong(
                f'{quantity(len(extra), "tensor")} of "{model}" {verb} no partner in "{frame}": '
                f"{', '.join(extra[:3])}{', …' if len(extra) > 3 else ''}",
                remedy=(
                    f"give their prefixes in {frame}: its tensors begin with "
                    f"{_beginnings(views[frame])}"
                ),
            )
    absent = {
        model: {name for name in known if name not in view.tensors}
        for model, view in others.items()
    }
    copied: set[str] = set().union(*absent.values()) if absent else set()
    for model, names in absent.items():
        if names != copied:
            name = min(copied - names)
            lacking = next(other for other in absent if name in absent[other])
            raise _wrong(
                f'"{name}" is in "{frame}" and "{model}" but not in "{lacking}"',
                remedy=f'merge without "{lacking}" first, then merge it into the result',
            )
    if copied == set(known):
        raise _wrong(
            f'no other model has any tensor of "{frame}"',
            remedy='write key_map: "auto", or the map',
        )
    return frozenset(copied)


def _short(view: View, frame: View, copied: frozenset[str]) -> tuple[str, ...]:
    names = [
        name
        for name in frame.tensors
        if name not in copied and (is_embedding(name) or is_head(name))
    ]
    return tuple(
        sorted(name for name in names if view.info(name)[1][:1] != frame.info(name)[1][:1])
    )


def _group(name: str) -> str:
    return name.partition(".")[0] + "." if "." in name else name


def _grouped(view: View) -> dict[str, list[str]]:
    groups: dict[str, list[str]] = {}
    for name in view.names:
        groups.setdefault(_group(name), []).append(name)
    return groups


def _beginnings(view: View) -> str:
    return ", ".join(f'"{group}"' for group in _grouped(view))


def named_as(adapter: Adapter, view: View) -> dict[str, str]:
    """The names an adapter has for tensors that the model under it stores under others: stored name
    → adapter's name.

    First by transformers' own renamings, which an adapter of a vision-language model needs in most
    cases: networks have said `model.language_model.layers` since version 4.52 and checkpoints say
    `language_model.model.layers` still. Then, for an adapter of a text model alone, by the rest of
    the name in the language backbone.
    """
    wanted = [*adapter.whole]
    for module, parts in adapter.parts.items():
        wanted += [f"{module}.{end}" for end in ("weight", "bias") if _asks(parts, end)]
    missing = [name for name in wanted if find_tensor(view, name) is None]
    if not missing:
        return {}
    today = _today(view, [*view.tensors, *missing])
    stored = {today.get(name, name): name for name in view.tensors}
    stacks = list(dict.fromkeys(place.stack for name in view.tensors if (place := place_of(name))))
    text = [name for name in view.tensors if role_of(name, stacks) == "text"]
    found: dict[str, str] = {}
    for name in missing:
        target = stored.get(today.get(name, name)) or _ending(text, name)
        if target is not None and found.setdefault(target, name) != name:
            return {}
    return found


def _asks(parts: Iterable[str], end: str) -> bool:
    return (
        any(part.endswith(".bias") for part in parts)
        if end == "bias"
        else set(parts) != {"base_layer.bias"}
    )


def _ending(names: Iterable[str], name: str) -> str | None:
    rest = "." + name.removeprefix("model.")
    ends = [other for other in names if other.endswith(rest)]
    return ends[0] if len(ends) == 1 else None


def alike(
    views: Mapping[str, View], reference: str, held: Iterable[str] = ()
) -> tuple[dict[str, View], list[str]]:
    """The models, those renamed that store tensors of the reference under other names of
    transformers; and notes. Models in `held` keep their names: the recipe's map speaks of them.
    """
    out, notes, held = dict(views), [], set(held)
    for model, view in views.items():
        if model in held or not _unlike(view, views[reference]):
            continue
        theirs = _today(views[reference], views[reference].tensors)
        stored = {theirs.get(name, name): name for name in views[reference].tensors}
        mine = _today(view, view.tensors)
        new = {
            name: name
            if name in views[reference].tensors
            else stored.get(mine.get(name, name), name)
            for name in view.tensors
        }
        changed = {name: other for name, other in new.items() if name != other}
        if not changed or len(set(new.values())) != len(new):
            continue
        out[model] = View(view.folder, {new[name]: one for name, one in view.tensors.items()})
        notes.append(
            f'{len(changed)} tensors of "{model}" stand under other names of transformers, the '
            f'result has those of "{reference}": {_shown(changed)}'
        )
    return out, notes


def unlike(views: Mapping[str, View]) -> bool:
    """Whether some models store tensors that others may have under other names."""
    first, *others = views.values()
    return any(_unlike(other, first) for other in others)


def _unlike(view: View, other: View) -> bool:
    return bool(_own(view, other) and _own(other, view)) and _kind(view) == _kind(other)


def _own(view: View, other: View) -> list[str]:
    return [
        name
        for name in view.tensors
        if name not in other.tensors and not (is_head(name) or is_buffer(name) or is_computed(name))
    ]


def _kind(view: View) -> tuple[str, bool]:
    config = read_config(view.folder)
    return str(config.get("architectures")), bool(config.get("quantization_config"))


def _today(view: View, names: Iterable[str]) -> dict[str, str]:
    try:
        from pomona.models.torch import current_names
    except PomonaError:  # without transformers names are what they are
        return {}
    return current_names(view.folder, names)


def _shown(changed: Mapping[str, str]) -> str:
    """How names were changed, each way once."""
    ways = Counter(_way(old, new) for old, new in changed.items())
    listed = [f'"{old}" → "{new}" ({count})' for (old, new), count in ways.most_common(4)]
    return ", ".join(listed) + (", …" if len(ways) > 4 else "")


def _way(old: str, new: str) -> tuple[str, str]:
    """What differs between two names: their common end taken off, layers' numbers as "*"."""
    left, right = (_NUMBER.sub("*", name).split(".") for name in (old, new))
    while left and right and left[-1] == right[-1]:
        left, right = left[:-1], right[:-1]
    return ".".join(left), ".".join(right)
