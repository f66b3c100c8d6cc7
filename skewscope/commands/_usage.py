"""Usage errors that repeat no secret: the parser of all commands, and what it leaves out of what it says."""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NoReturn

HINTS = ("token", "password", "passwd", "secret", "header", "cookie", "webhook", "credential")  # misspelt ones too
SHORT = ("key", "auth")  # misspelt, these could be anything
NEAR = 0.82
LONG = 4  # a shorter secret is left out where it stands alone: as a part of words it would take them all along
NO_VALUE = re.compile(r"ignored explicit argument .*", re.DOTALL)
FLAG = re.compile(r"--[\w.-]*|-\w?")


class Parser(argparse.ArgumentParser):
    """Says what is wrong with the words of a command, without those among them that may be secret."""

    words: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # noqa: ANN401 - as argparse has it
        """Parse as argparse does, and remember the words for a message about them."""
        self.words = list(args or ())
        return super().parse_known_args(args, namespace)

    def error(self, message: str) -> NoReturn:
        """Tell a mistake on standard error and end with code 2."""
        listed = {str(one) for action in self._actions for one in action.choices or ()}
        words = [word for word in self.words if word not in listed]  # a message lists them
        super().error(without_secrets(NO_VALUE.sub("takes no value", message), words))

    def _check_value(self, action: argparse.Action, value: object) -> None:
        # argparse would repeat any word, but one without a flag of its own may be the password of a flag that is none.
        if action.choices is not None and value not in action.choices:
            known = [str(one) for one in action.choices]
            came = f": {value!r}" if action.option_strings else ""
            near = _near([str(value)], known)
            raise argparse.ArgumentError(action, f"invalid choice{came}{near}; there is {', '.join(known)}")


def unrecognized(words: Sequence[str], known: Iterable[str]) -> str:
    """Return a message that names the flags among words and near ones, or says how many words are too many.

    >>> unrecognized(["--pasword", "s3cret", "--tokn=s3cret", "-ps3cret"], ["--password-file", "--token"])
    'unrecognized arguments: --pasword --tokn -p (did you mean --password-file, --token?)'
    >>> unrecognized(["s3cret"], ["--token"])
    'unrecognized arguments: 1 word too many'
    """
    flags = [found[0] for word in words if (found := FLAG.match(word))]
    if not flags:
        return f"unrecognized arguments: {len(words)} word{'s' * (len(words) > 1)} too many"
    return f"unrecognized arguments: {' '.join(flags)}{_near(flags, known)}"


def hints_at_secret(name: str) -> bool:
    """Return whether the name of a flag says that its value may be secret, also where it is misspelt.

    >>> hints_at_secret("--bearer-tokn"), hints_at_secret("api_key"), hints_at_secret("--workers")
    (True, True, False)
    """
    from difflib import get_close_matches

    name = name.lower()
    if any(hint in name for hint in HINTS + SHORT):
        return True
    return any(get_close_matches(part, HINTS, n=1, cutoff=NEAR) for part in re.split(r"[\W_]+", name) if part)


def without_secrets(message: str, words: Sequence[str]) -> str:
    """Return a message about words without values of flags that hint at a secret, and without logins of addresses.

    >>> without_secrets("invalid int value: 'http://ann:s3cret@host'", ["--seed", "http://ann:s3cret@host"])
    "invalid int value: 'http://...@host'"
    >>> without_secrets("'s3cret' is no number", ["--pasword", "s3cret"])
    "'...' is no number"
    """
    return _without([part for part, hinted in _parts(words) if hinted], without_logins(message, words))


def without_logins(message: str, words: Sequence[str]) -> str:
    """Return a message about words without logins and queries of addresses among them.

    >>> without_logins("no such file: http:/ann:s3cret@host", ["http://ann:s3cret@host"])
    'no such file: http:/...@host'
    """
    return _without([secret for part, _ in _parts(words) for secret in _of_address(part)], message)


def _without(secrets: Iterable[str], message: str) -> str:
    for secret in sorted(set(secrets), key=len, reverse=True):
        for form in (secret, repr(secret)[1:-1]):
            found = re.escape(form)
            message = re.sub(found if len(form) >= LONG else rf"(?<!\w){found}(?!\w)", "...", message)
    return message


def _parts(words: Sequence[str]) -> Iterator[tuple[str, bool]]:
    """Yield values and their parts, and whether their flag hints at a secret: --header Authorization: Bearer X."""
    hinted = False
    for word in words:
        value = word
        if word.startswith("-"):
            name, equals, value = word.partition("=")
            hinted = hints_at_secret(name)
            if not equals:
                continue
        for part in filter(None, (value, *re.split("[,=]", value))):
            yield part, hinted


def _of_address(text: str) -> Iterator[str]:
    """Yield login and query of an address.

    >>> list(_of_address("http://ann:s3cret@host/x?token=1")), list(_of_address("ann:s3cret@host"))
    (['ann:s3cret', 'token=1'], ['ann:s3cret'])
    """
    before, scheme, rest = text.partition("://")
    login = (rest if scheme else before).rpartition("@")[0]
    if login and (scheme or ":" in login):
        yield login
    query = rest.partition("?")[2]
    if query:
        yield query


def _near(names: Sequence[str], known: Iterable[str]) -> str:
    from difflib import get_close_matches

    choices = {one.lstrip("-"): one for one in sorted(known)}  # dashes would make any two short flags alike
    near = {choices[one]: None for name in names for one in get_close_matches(name.lstrip("-"), choices, n=1)}
    return f" (did you mean {', '.join(near)}?)" if near else ""
