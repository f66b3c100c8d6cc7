"""Addresses as they may be shown: in messages, logs and pages, where others read them."""

from __future__ import annotations


def without_login(url: str) -> str:
    """Return an address without login and query, however badly it is written.

    >>> without_login("https://ann:secret@host:9090/x?token=1"), without_login("ann:sec/ret@host")
    ('https://host:9090/x', 'host')
    """
    scheme, colon, rest = url.rpartition("://")
    return scheme.rpartition("@")[2] + colon + rest.rpartition("@")[2].partition("?")[0]


def hidden(url: str) -> str:
    """Return an address without what may be secret in it: the path of a chat's webhook is its password.

    >>> hidden("https://hooks.slack.com/services/T0/B0/secret"), hidden("http://u:p@h:1/x"), hidden("https://h/?k=1")
    ('https://hooks.slack.com/...', 'http://h:1/...', 'https://h/...')
    """
    scheme, colon, rest = without_login(url).rpartition("://")
    host, _, path = rest.partition("/")
    return scheme + colon + host + ("/..." if path.strip("/") or "?" in url else "")
