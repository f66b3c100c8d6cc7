"""What a node says of itself when it is asked whether it may take part: the verdict that stands on it.

What cannot be read is no reason to keep a node out: then it may take part, and `trouble` says what went wrong.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from ..acts import FENCES
from ..errors import SkewscopeError
from ..web.server import Pages, Reply
from . import _advice, _verdicts, _whole_file
from ._asked import asked


@dataclass(frozen=True)
class Said:
    """Whether a node may take part; `checks` are the reasons why not, `trouble` what could not be read."""

    node: str
    checks: tuple[str, ...] = ()
    trouble: str = ""

    @property
    def healthy(self) -> bool:
        """Whether nothing keeps the node out."""
        return not self.checks

    def output(self) -> str:
        """Return the JSON that NVRx reads: each version of it looks at one of `fail_count` and `failed_checks`.

        >>> Said("n1").output()
        '{"fail_count": 0, "failed_checks": [], "node": "n1"}'
        """
        told = {"fail_count": len(self.checks), "failed_checks": list(self.checks), "node": self.node}
        return json.dumps(told | ({"trouble": self.trouble} if self.trouble else {}))


@dataclass(frozen=True)
class Health:
    """The verdicts on one node: from a folder, or an address below which NODE.json lies."""

    verdicts: str
    node: str
    timeout_s: float = 5.0

    def __call__(self) -> Said:
        """Return what stands on the node now; never raises. A long name may have its file under its first part."""
        troubles = []
        for name in dict.fromkeys((self.node, self.node.partition(".")[0])):
            try:
                content = self._read(name)
            except SkewscopeError as error:
                troubles.append(str(error))
                continue
            acts = _verdicts.acts_of(content)
            if acts is None:
                troubles.append(f"what lies there for {name} is no {_verdicts.SCHEMA}")
            elif acts:
                reasons = tuple(str(one.get("reason") or one["verb"]) for one in acts if one["verb"] in FENCES)
                return Said(self.node, reasons)
        return Said(self.node, trouble="; ".join(troubles))

    def _read(self, name: str) -> Any:  # noqa: ANN401 - any JSON value
        if self.verdicts.startswith(("http://", "https://")):
            where = f"{self.verdicts.rstrip('/')}/{quote(_whole_file.file_of('', name).name)}"
            return asked(where, timeout_s=self.timeout_s)
        if not os.path.isdir(self.verdicts):
            raise SkewscopeError(f"{self.verdicts}: there is no such folder")
        return _whole_file.read(_whole_file.file_of(self.verdicts, name))


def pages(health: Callable[[], Said], advice: str) -> Pages:
    """Return what answers `GET /verdict` (503 while the node is kept out), `/healthz` and `/advice?job=JOB`."""
    hints = _advice.pages(advice)

    def page(path: str, headers: Mapping[str, str]) -> Reply:
        where = path.partition("?")[0]
        if where == "/advice" and advice:
            return hints(path, headers)
        if where == "/healthz":
            return Reply(200, _advice.TEXT, b"ok\n")
        if where != "/verdict":
            return Reply(404, _advice.TEXT, b"there are /verdict, /healthz and, with --advice, /advice?job=JOB\n")
        said = health()
        return Reply(200 if said.healthy else 503, _advice.JSON, said.output().encode() + b"\n")

    return page
