"""The flags of all commands that ask a server: who we are, whom we trust. Secrets stand in files, never in a word."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ..web.access import Access

FILES = {
    "password-file": "file with the password", "bearer-token-file": "file with a token", "ca-file": "trusted CAs",
    "cert-file": "own certificate", "key-file": "its key",
}  # fmt: skip


def flags(parser: argparse.ArgumentParser, whom: str) -> None:
    """Declare them; `whom` says in the help what is asked."""
    identity(parser, whom, tuple(FILES))
    add = parser.add_argument
    add("--header", metavar="NAME=VALUE,...", type=pairs, default={}, help=f"sent to {whom}, as X-Scope-OrgID=a")


def identity(parser: argparse.ArgumentParser, whom: str, files: Sequence[str]) -> None:
    """Declare a name and these files alone."""
    add = parser.add_argument
    add("--user", metavar="NAME", default="", help=f"for {whom}: name")
    for name in files:
        add(f"--{name}", metavar="FILE", default="", help=f"for {whom}: {FILES[name]}")


def given(args: argparse.Namespace) -> Access:
    """Return what the flags say; the files are read when a server is asked."""
    from ..web.access import Access

    return Access(args.user, args.password_file, args.bearer_token_file, args.ca_file, args.cert_file, args.key_file,
                  args.header)  # fmt: skip


def checked(args: argparse.Namespace) -> Access:
    """Return what the flags say; raises UsageError for files that cannot be used, now and not at the first answer."""
    access = given(args)
    access.lines()
    if access.ca_file or access.certificate_file:
        access.tls()
    return access


def pairs(text: str) -> dict[str, str]:
    """Return names and values of a text; raises argparse.ArgumentTypeError, without what came: it may be a secret.

    >>> pairs("X-Scope-OrgID=gpu, X-Key=a=b")
    {'X-Scope-OrgID': 'gpu', 'X-Key': 'a=b'}
    """
    found: dict[str, str] = {}
    for part in filter(None, map(str.strip, text.split(","))):
        name, equals, value = part.partition("=")
        if not equals or not name:
            raise argparse.ArgumentTypeError("wants NAME=VALUE")
        found[name] = value
    return found
