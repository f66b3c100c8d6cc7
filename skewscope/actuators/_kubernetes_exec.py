"""Asks a credential plugin of a kubeconfig, as cloud providers have them: a program, never a shell."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from math import inf
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ._kubernetes_login import Credential

TIMEOUT_S = 30.0
SPARE_S = 30.0  # ask anew so long before a credential ends


@dataclass(frozen=True)
class Plugin:
    """One plugin: the words that are run, what is added to the environment, and what it is told."""

    words: tuple[str, ...]
    env: Mapping[str, str]
    told: str
    timeout_s: float = TIMEOUT_S

    @classmethod
    def of(cls, entry: Mapping[str, Any], folder: Path, cluster: Mapping[str, Any]) -> Plugin:
        """Return the plugin of a kubeconfig's `exec` entry; a command with a slash is relative to the file's folder."""
        command = str(entry.get("command") or "")
        if not command:
            raise UsageError("kubeconfig: the exec plugin has no command")
        if os.sep in command:
            command = str(folder / command)
        spec: dict[str, Any] = {"interactive": False}
        if entry.get("provideClusterInfo"):
            spec["cluster"] = {key: cluster[key] for key in ("server", "certificate-authority-data") if key in cluster}
        version = str(entry.get("apiVersion") or "client.authentication.k8s.io/v1")
        told = json.dumps({"apiVersion": version, "kind": "ExecCredential", "spec": spec})
        env = {str(one["name"]): str(one["value"]) for one in entry.get("env") or ()}
        return cls((command, *map(str, entry.get("args") or ())), env, told)

    def credential(self) -> Credential:
        """Run it; raises UsageError that says what came instead (never its output, which may be secret)."""
        name = self.words[0]
        try:
            run = subprocess.run(self.words, env={**os.environ, **self.env, "KUBERNETES_EXEC_INFO": self.told},
                                 stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                                 timeout=self.timeout_s, check=False)  # fmt: skip
        except subprocess.TimeoutExpired:
            raise UsageError(f"{name}: the credential plugin took more than {self.timeout_s:g} s") from None
        except OSError as error:
            raise UsageError(f"{name}: the credential plugin cannot be run: {error.strerror or error}") from None
        if run.returncode:
            raise UsageError(f"{name}: the credential plugin ended with {run.returncode}; run it by hand to see why")
        return _credential(name, run.stdout)


def _credential(name: str, output: bytes) -> Credential:
    try:
        status = json.loads(output)["status"]
        until = str(status.get("expirationTimestamp") or "")
        until_s = datetime.fromisoformat(until).timestamp() - SPARE_S if until else inf
        return Credential(str(status.get("token") or ""), "", str(status.get("clientCertificateData") or ""),
                          str(status.get("clientKeyData") or ""), until_s)  # fmt: skip
    except (ValueError, KeyError, TypeError, AttributeError):
        raise UsageError(f"{name}: the credential plugin wrote no ExecCredential") from None
