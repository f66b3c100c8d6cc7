"""Finds the login: the kubeconfig of the settings, of KUBECONFIG, the pod's service account, ~/.kube/config."""

from __future__ import annotations

import base64
import binascii
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml

from ..errors import UsageError
from ._kubernetes_exec import Plugin
from ._kubernetes_login import Credential, Login

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
REREAD_S = 60.0  # the kubelet changes a pod's token long before it ends
REFUSED = {
    "insecure-skip-tls-verify": "give certificate-authority: an unknown server would get our token",
    "proxy-url": "a proxy is not supported; reach the server directly",
    "auth-provider": "replace auth-provider by an exec plugin",
    "as": "impersonation is not supported; give an identity of its own",
}
Values = Mapping[str, Any]


def login(
    kubeconfig: str = "", context: str = "", env: Mapping[str, str] | None = None, account: Path = SERVICE_ACCOUNT
) -> Login:
    """Return the login; raises UsageError that says what is missing. `env` is the environment, `account` of the pod."""
    env = os.environ if env is None else env
    named = kubeconfig or env.get("KUBECONFIG", "")
    if not named and env.get("KUBERNETES_SERVICE_HOST") and (account / "token").is_file():
        return _of_pod(env, account)
    files = [Path(name).expanduser() for name in named.split(os.pathsep) if name]
    files = files or [Path(env.get("HOME", "~")).expanduser() / ".kube" / "config"]
    found = [file for file in files if file.is_file()]
    if not found:
        raise UsageError(f"{files[0]}: no kubeconfig, and this is no pod; set kubeconfig in [schedulers.kubernetes]")
    return _of_files(found, context)


def _of_pod(env: Mapping[str, str], account: Path) -> Login:
    host, port = env["KUBERNETES_SERVICE_HOST"], env.get("KUBERNETES_SERVICE_PORT", "443")
    host = f"[{host}]" if ":" in host else host
    space = account / "namespace"
    return Login(f"https://{host}:{port}", _file_token(account / "token"),
                 namespace=_read(space).strip() if space.is_file() else "default",
                 authorities=_read(account / "ca.crt"))  # fmt: skip


def _of_files(files: list[Path], context: str) -> Login:
    """Return the login of a context; several files count as one, the first that names a thing wins."""
    read = [(file, _parsed(file)) for file in files]
    context = context or next((str(doc["current-context"]) for _, doc in read if doc.get("current-context")), "")
    _, chosen = _entry(read, "context", context)
    folder, cluster = _entry(read, "cluster", str(chosen.get("cluster", "")))
    user_folder, user = _entry(read, "user", str(chosen.get("user", ""))) if chosen.get("user") else (folder, {})
    for key, mend in REFUSED.items():
        if cluster.get(key) or user.get(key):
            raise UsageError(f"context {context!r}: {key}: {mend}")
    return Login(str(cluster.get("server", "")), _asker(user, user_folder, cluster),
                 namespace=str(chosen.get("namespace") or "default"),
                 authorities=_pem(cluster, "certificate-authority", folder),
                 server_name=str(cluster.get("tls-server-name", "")))  # fmt: skip


def _asker(user: Values, folder: Path, cluster: Values) -> Callable[[], Credential]:
    if isinstance(user.get("exec"), dict):
        return Plugin.of(user["exec"], folder, cluster).credential
    if user.get("tokenFile"):
        return _file_token(folder / str(user["tokenFile"]))
    basic = f"{user['username']}:{user.get('password', '')}" if user.get("username") else ""
    made = Credential(str(user.get("token") or ""), basic, _pem(user, "client-certificate", folder),
                      _pem(user, "client-key", folder))  # fmt: skip
    return lambda: made


def _file_token(file: Path) -> Callable[[], Credential]:
    """Return what reads a token file again each minute."""
    return lambda: Credential(token=_read(file).strip(), until_s=time.time() + REREAD_S)


def _parsed(file: Path) -> Values:
    try:
        doc = yaml.safe_load(_read(file))
    except yaml.YAMLError as error:
        raise UsageError(f"{file}: no kubeconfig: {' '.join(str(error).split())}") from None
    if not isinstance(doc, dict):
        raise UsageError(f"{file}: no kubeconfig: it holds no mapping")
    return doc


def _entry(read: list[tuple[Path, Values]], kind: str, name: str) -> tuple[Path, Values]:
    """Return a named entry and the folder of its file, to which its paths are relative."""
    for file, doc in read:
        for entry in doc.get(f"{kind}s") or ():
            if isinstance(entry, dict) and entry.get("name") == name:
                return file.parent, entry.get(kind) or {}
    raise UsageError(f"{read[0][0]}: no {kind} is called {name!r}")


def _pem(values: Values, key: str, folder: Path) -> str:
    """Return PEM text that stands inline (base64, as KEY-data) or in a file."""
    if inline := values.get(f"{key}-data"):
        try:
            return base64.b64decode(str(inline), validate=True).decode("ascii")
        except (binascii.Error, UnicodeDecodeError):
            raise UsageError(f"kubeconfig: {key}-data is no base64 of PEM text") from None
    return _read(folder / str(values[key])) if values.get(key) else ""


def _read(file: Path) -> str:
    try:
        return file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{file}: cannot be read: {error}") from None
