"""Settings from the environment and a TOML file, below flags and above defaults."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ._usage import without_secrets

PREFIX = "SKEWSCOPE_"
NEVER = {"help", "version", "config", "command"}
YES, NO = {"1", "true", "yes", "on"}, {"0", "false", "no", "off", ""}

Parsers = Mapping[str, argparse.ArgumentParser]
Actions = dict[str, argparse.Action]


def apply(
    parser: argparse.ArgumentParser, commands: Parsers, words: Sequence[str], environ: Mapping[str, str]
) -> dict[str, Any]:
    """Give the parsers their defaults from the file that `--config` names and from SKEWSCOPE_* variables.

    Returns by key what the settings took the place of. Raises UsageError naming the key, and near names, for a setting
    that does not exist or does not fit.
    """
    chosen = _chosen(words, commands)
    shared = _actions(parser)
    own = {name: _actions(place) for name, place in commands.items()}
    path = _config_path(words, environ)
    layers = list(_from_file(path, shared, own, chosen)) if path else []
    layers += _from_environment(environ, shared, own.get(chosen, {}))
    before: dict[str, Any] = {}
    for origin, key, value in layers:
        place, action = (parser, shared[key]) if key in shared else (commands[chosen], own[chosen][key])
        before.setdefault(key, place.get_default(key))
        action.required = False
        place.set_defaults(**{key: _converted(action, value, origin)})
    return before


def give_way(args: argparse.Namespace, words: Sequence[str], before: Mapping[str, Any]) -> None:
    """Take settings back that do not go together with what the words name.

    `args.alternatives` are groups of keys, of which a command takes one: `dashboard --report` is no mistake where
    SKEWSCOPE_PROMETHEUS is set. `before` is what `apply` returned.
    """
    groups = [set(group) for group in getattr(args, "alternatives", ())]
    flags = {word.partition("=")[0] for word in _own(words)}
    told = {
        key for group in groups for key in group if getattr(args, key) and (key not in before or f"--{key}" in flags)
    }
    if not told:
        return
    kept: set[str] = set().union(*(group for group in groups if group & told))
    for key in set().union(*groups) - kept:
        if key in before:
            setattr(args, key, before[key])


def complaints(path: str, parser: argparse.ArgumentParser, commands: Parsers) -> list[str]:
    """Return what is wrong in a settings file for any command, each with the line where its key stands."""
    shared, own = _actions(parser), {name: _actions(place) for name, place in commands.items()}
    try:
        given = _toml(path)
    except UsageError as error:
        return [str(error)]
    said: dict[str, None] = {}
    for name, part in _parts(given):
        for chosen in own:
            try:
                for origin, key, value in _from_toml(part, path, shared, own, chosen):
                    _converted(shared.get(key) or own[chosen][key], value, origin)
            except UsageError as error:
                where = name[:1] if str(error).startswith(f"{path}: section ") else name
                said[str(error).replace(path, _place(path, where), 1)] = None
    return list(said)


def flags(parser: argparse.ArgumentParser, commands: Parsers, words: Sequence[str]) -> list[str]:
    """Return the flags of the command that words call."""
    chosen = commands.get(_chosen(words, commands), parser)
    return [flag for action in chosen._actions for flag in action.option_strings]


def _parts(given: Mapping[str, Any]) -> Iterator[tuple[tuple[str, ...], dict[str, Any]]]:
    """Yield each key of a file alone, with the names that lead to it.

    >>> [name for name, _ in _parts({"quiet": True, "plan": {"moe": {"gpus": 4}}, "watch": {}})]
    [('quiet',), ('plan', 'moe', 'gpus'), ('watch',)]
    """
    for name, value in given.items():
        if not isinstance(value, dict) or not value:
            yield (name,), {name: value}
            continue
        for below, part in _parts(value):
            yield (name, *below), {name: part}


def _place(path: str, name: Sequence[str]) -> str:
    """Return "PATH:LINE" of a key below its section, or of the section where the key cannot be found."""
    section: tuple[str, ...] = ()
    found = 0
    for number, line in enumerate(Path(path).read_text("utf-8").splitlines(), start=1):
        head, key = re.match(r"\s*\[\s*([^\]]+?)\s*\]", line), re.match(r"\s*\"?([\w.-]+)\"?\s*=", line)
        if head:
            section = tuple(part.strip(' "') for part in head[1].split("."))
            found = number if section == tuple(name[: len(section)]) else found
        elif key and (*section, *key[1].split(".")) == tuple(name):
            return f"{path}:{number}"
    return f"{path}:{found}" if found else path


def _chosen(words: Sequence[str], commands: Parsers) -> str:
    """Return the name of the command that words call, as "plan.moe" where it holds further ones."""
    chosen = ""
    for word in words:
        name = f"{chosen}.{word}" if chosen else word
        chosen = name if name in commands else chosen
    return chosen


def _actions(parser: argparse.ArgumentParser) -> Actions:
    """Return the options that settings may set, by their key."""
    return {action.dest: action for action in parser._actions if action.option_strings and action.dest not in NEVER}


def _own(words: Sequence[str]) -> Sequence[str]:
    """Return the words before "--": what stands behind is of another program."""
    return words[: words.index("--")] if "--" in words else words


def _config_path(words: Sequence[str], environ: Mapping[str, str]) -> str:
    found = environ.get(f"{PREFIX}CONFIG", "")
    own = _own(words)
    for word, after in zip(own, [*own[1:], ""], strict=False):
        if word == "--config":
            found = after
        elif word.startswith("--config="):
            found = word.removeprefix("--config=")
    return found


def _from_file(path: str, shared: Actions, own: Mapping[str, Actions], chosen: str) -> Iterator[tuple[str, str, Any]]:
    return _from_toml(_toml(path), path, shared, own, chosen)


def _from_toml(
    given: Mapping[str, Any], path: str, shared: Actions, own: Mapping[str, Actions], chosen: str
) -> Iterator[tuple[str, str, Any]]:
    everywhere = sorted({*shared, *(key for actions in own.values() for key in actions)})
    for name, value in given.items():
        if isinstance(value, dict):
            continue
        key = _known(name, everywhere, f"{path}: key")
        if key in shared or key in own.get(chosen, {}):
            yield f"{path}: {name}", key, value
    for section, values in _sections(given, own, path):
        below = {key for name in own if name == section or name.startswith(f"{section}.") for key in own[name]}
        for name, value in values.items():
            key = _known(name, sorted({*below, *shared}), f"{path}: key {section}.", joined=True)
            if f"{chosen}.".startswith(f"{section}.") and (key in shared or key in own[chosen]):
                yield f"{path}: {section}.{name}", key, value


def _sections(given: Mapping[str, Any], own: Mapping[str, Actions], path: str) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each section's name and keys, what it holds for a nested command after it, as "plan.moe"."""
    for section, values in given.items():
        if not isinstance(values, dict):
            continue
        _known(section, sorted(name for name in own if "." not in name), f"{path}: section", fold=False)
        nested = {name: one for name, one in values.items() if f"{section}.{name}" in own and isinstance(one, dict)}
        yield section, {name: one for name, one in values.items() if name not in nested}
        yield from ((f"{section}.{name}", one) for name, one in nested.items())


def _toml(path: str) -> dict[str, Any]:
    import tomllib

    try:
        return tomllib.loads(Path(path).read_text("utf-8"))
    except OSError as error:
        raise UsageError(f"cannot read the settings file {path}: {error.strerror}") from None
    except (ValueError, RecursionError) as error:  # also of numbers with thousands of digits
        raise UsageError(f"the settings file {path} is not valid TOML: {error}") from None


def _known(name: str, names: Sequence[str], what: str, *, joined: bool = False, fold: bool = True) -> str:
    key = name.replace("-", "_") if fold else name
    if key in names:
        return key
    from difflib import get_close_matches

    near = get_close_matches(key, names, n=3, cutoff=0.5)
    hint = f"did you mean {', '.join(near)}?" if near else f"known are {', '.join(names)}"
    raise UsageError(f"{what}{'' if joined else ' '}{name} is unknown; {hint}")


def _from_environment(
    environ: Mapping[str, str], shared: Actions, own: Mapping[str, argparse.Action]
) -> list[tuple[str, str, Any]]:
    # Other variables with the prefix belong to other parts of skewscope, so unknown ones are no error here.
    keys = [*shared, *(key for key in own if key not in shared)]
    return [(name, key, environ[name]) for key in keys if (name := PREFIX + key.upper()) in environ]


def _converted(action: argparse.Action, value: Any, origin: str) -> Any:  # noqa: ANN401 - TOML values of any type
    try:
        return _made(action, value, origin)
    except UsageError as error:
        values = value if isinstance(value, list) else [value]
        said = without_secrets(str(error), [f"--{action.dest}={one}" for one in values])
        raise UsageError(said) from None


def _made(action: argparse.Action, value: Any, origin: str) -> Any:  # noqa: ANN401 - TOML values of any type
    if isinstance(action, argparse._StoreTrueAction):
        return _yes_or_no(value, origin)
    if isinstance(value, bool | dict):
        raise UsageError(f"{origin} = {value!r}: wants a value such as {action.metavar or action.dest.upper()}")
    text = ",".join(str(item) for item in value) if isinstance(value, list) else str(value)
    try:
        made = action.type(text) if callable(action.type) else text
    except (ValueError, TypeError, argparse.ArgumentTypeError) as error:
        raise UsageError(f"{origin} = {value!r} does not fit: {error}") from None
    if action.choices is not None and made not in action.choices:
        raise UsageError(f"{origin} = {value!r} is none of {', '.join(map(str, action.choices))}")
    return made


def _yes_or_no(value: Any, origin: str) -> bool:  # noqa: ANN401 - TOML values of any type
    text = str(value).lower()
    if text not in YES | NO:
        raise UsageError(f"{origin} = {value!r} is neither true nor false")
    return text in YES
