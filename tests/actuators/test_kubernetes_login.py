"""How the API server is reached: kubeconfigs, service accounts, credential plugins, TLS."""

from __future__ import annotations

import base64
import os
import ssl
import sys
from pathlib import Path
from runpy import run_path
from typing import Any

import pytest
import trustme
import yaml

from skewscope.actuators._kubernetes_client import NoAnswer
from skewscope.actuators._kubernetes_config import login
from skewscope.actuators.kubernetes import Kubernetes
from skewscope.errors import UsageError

WORLDS = run_path(str(Path(__file__).parent / "kubernetes" / "_world.py"))
own, serving, kubeconfig, Cluster = WORLDS["own"], WORLDS["serving"], WORLDS["kubeconfig"], WORLDS["Cluster"]
EC = trustme.KeyType.ECDSA


def b64(text: bytes) -> str:
    return base64.b64encode(text).decode()


def edited(path: str, **changes: Any) -> str:
    """Change a kubeconfig: cluster and user entries, and the context."""
    document = yaml.safe_load(Path(path).read_text())
    document["clusters"][0]["cluster"] |= changes.get("cluster", {})
    document["users"][0]["user"] |= changes.get("user", {})
    document["contexts"][0]["context"] |= changes.get("context", {})
    Path(path).write_text(yaml.safe_dump(document))
    return path


def test_a_token_stands_in_the_file_or_in_one_beside_it(tmp_path: Path) -> None:
    file = kubeconfig(tmp_path, "https://h:1/k8s/c", token="abc")
    assert login(edited(file, context={"namespace": "ml"})).namespace == "ml"
    assert login(file).headers() == {"Authorization": "Bearer abc"}
    (tmp_path / "token").write_text("first\n")
    edited(file, user={"tokenFile": "token"})
    assert login(file).headers() == {"Authorization": "Bearer first"}
    assert login(edited(kubeconfig(tmp_path, "https://h"), user={"username": "u", "password": "p"})).headers() == {
        "Authorization": "Basic dTpw"
    }


def test_a_token_file_is_read_again_when_its_minute_is_over(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("first")
    found = login(kubeconfig(tmp_path, "https://h", tokenFile="token"))
    assert found.credential().token == "first"
    (tmp_path / "token").write_text("second")
    assert found.credential().token == "first"
    assert found.credential(found.credential().until_s).token == "second"


def test_where_it_looks_for_a_login(tmp_path: Path) -> None:
    account = tmp_path / "account"
    account.mkdir()
    for name, text in {"token": "pod", "ca.crt": "", "namespace": "watch"}.items():
        (account / name).write_text(text)
    home = tmp_path / ".kube"
    home.mkdir()
    (home / "config").write_text(Path(kubeconfig(tmp_path, "https://home", token="home")).read_text())
    named = kubeconfig(tmp_path, "https://named", token="named")
    pod = {"KUBERNETES_SERVICE_HOST": "fd00::1", "KUBERNETES_SERVICE_PORT": "6443", "HOME": str(tmp_path)}

    found = login(env=pod, account=account)
    assert (found.server, found.namespace, found.credential().token) == ("https://[fd00::1]:6443", "watch", "pod")
    assert login(named, env=pod, account=account).server == "https://named"
    assert login(env=pod | {"KUBECONFIG": named}, account=account).server == "https://named"
    assert login(env={"HOME": str(tmp_path)}, account=account).server == "https://home"
    with pytest.raises(UsageError, match=r"no kubeconfig, and this is no pod; set kubeconfig in \[schedulers"):
        login(env={"HOME": str(account)}, account=account)


def test_several_files_count_as_one_and_a_context_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    first = kubeconfig(tmp_path, "https://first", token="1")
    second = kubeconfig(tmp_path / "a", "https://second", token="2")
    for kind in ("clusters", "users", "contexts"):
        document = yaml.safe_load(Path(second).read_text())
        document[kind][0]["name"] = "other"
        Path(second).write_text(yaml.safe_dump(document))
    edited(second, context={"cluster": "other", "user": "other"})
    both = f"{first}{os.pathsep}{second}"
    assert login(both, env={}).server == "https://first"
    assert login(both, "other", env={}).headers() == {"Authorization": "Bearer 2"}
    with pytest.raises(UsageError, match="no context is called 'none'"):
        login(both, "none", env={})


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"cluster": {"insecure-skip-tls-verify": True}}, "give certificate-authority"),
        ({"cluster": {"proxy-url": "http://p"}}, "a proxy is not supported"),
        ({"user": {"auth-provider": {"name": "gcp"}}}, "replace auth-provider by an exec plugin"),
        ({"user": {"as": "root"}}, "impersonation is not supported"),
        ({"cluster": {"certificate-authority-data": "%%"}}, "certificate-authority-data is no base64"),
        ({"cluster": {"certificate-authority": "gone.pem"}}, "gone.pem: cannot be read"),
        ({"cluster": {"server": "h:6443"}}, "the address of an API server is https://HOST:PORT"),
        ({"user": {"exec": {"args": ["x"]}}}, "has no command"),
        ({"context": {"user": "nobody"}}, "no user is called 'nobody'"),
    ],
)
def test_what_cannot_be_meant_is_said(tmp_path: Path, change: Any, says: str) -> None:
    file = edited(kubeconfig(tmp_path, "https://h:1", token="secret-7"), **change)
    with pytest.raises(UsageError, match=says) as caught:
        login(file)
    assert "secret-7" not in str(caught.value)


@pytest.mark.parametrize("text", ["- a", "a: [", ""])
def test_a_file_that_is_no_kubeconfig_is_said(tmp_path: Path, text: str) -> None:
    (tmp_path / "k").write_text(text)
    with pytest.raises(UsageError, match="no kubeconfig"):
        login(str(tmp_path / "k"))


def plugin(folder: Path, body: str) -> dict[str, Any]:
    """Return the entry of a plugin that is a script in a folder."""
    (folder / "plug.py").write_text(body)
    return {"apiVersion": "client.authentication.k8s.io/v1", "command": sys.executable,
            "args": [str(folder / "plug.py"), "$(reboot)", "a b"], "env": [{"name": "WHO", "value": "me; x"}],
            "provideClusterInfo": True}  # fmt: skip


def test_a_plugin_is_run_without_a_shell_and_asked_again_when_its_token_ends(tmp_path: Path) -> None:
    entry = plugin(tmp_path, (
        "import json, os, sys\n"
        "told = json.loads(os.environ['KUBERNETES_EXEC_INFO'])\n"
        "assert told['spec'] == {'interactive': False, 'cluster': {'server': 'https://h'}}, told\n"
        "open(sys.argv[0] + '.count', 'a').write('x')\n"
        "token = '|'.join([os.environ['WHO'], *sys.argv[1:]])\n"
        "status = {'token': token, 'expirationTimestamp': '2100-01-01T00:00:00Z'}\n"
        "print(json.dumps({'kind': 'ExecCredential', 'status': status}))\n"))  # fmt: skip
    found = login(kubeconfig(tmp_path, "https://h", exec=entry))
    assert found.headers() == {"Authorization": "Bearer me; x|$(reboot)|a b"} == found.headers()
    assert (tmp_path / "plug.py.count").read_text() == "x"
    assert found.credential().until_s == 4_102_444_800 - 30
    found.credential(5e9)
    found.forget()
    found.headers()
    assert (tmp_path / "plug.py.count").read_text() == "xxx"


@pytest.mark.parametrize(
    ("body", "says"),
    [
        ("print('secret-7'); raise SystemExit(3)", "ended with 3; run it by hand"),
        ("print('secret-7')", "wrote no ExecCredential"),
        ("print('[]')", "wrote no ExecCredential"),
        ('print(\'{"status": {"expirationTimestamp": "soon"}}\')', "wrote no ExecCredential"),
    ],
)
def test_a_plugin_that_fails_is_said_but_not_what_it_wrote(tmp_path: Path, body: str, says: str) -> None:
    with pytest.raises(UsageError, match=says) as caught:
        login(kubeconfig(tmp_path, "https://h", exec=plugin(tmp_path, body))).headers()
    assert "secret-7" not in str(caught.value)
    entry = {"command": "./none"}
    with pytest.raises(UsageError, match="cannot be run: No such file"):
        login(kubeconfig(tmp_path, "https://h", exec=entry)).headers()


def test_tls_trusts_the_named_authority_and_shows_our_certificate(tmp_path: Path) -> None:
    authority, strangers = trustme.CA(key_type=EC), trustme.CA(key_type=EC)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("kubernetes.default").configure_cert(context)
    context.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(context)
    ours = authority.issue_cert("skewscope@example.org")
    user = {
        "client-certificate-data": b64(ours.cert_chain_pems[0].bytes()),
        "client-key-data": b64(ours.private_key_pem.bytes()),
    }
    trusted = {"certificate-authority-data": b64(authority.cert_pem.bytes())}
    with serving(Cluster(), context) as server:
        file = edited(kubeconfig(tmp_path, server, **user), cluster=trusted | {"tls-server-name": "kubernetes.default"})
        assert Kubernetes(kubeconfig=file).look().complete
        edited(file, cluster={"tls-server-name": "other.name"})
        with pytest.raises(NoAnswer, match="CERTIFICATE_VERIFY_FAILED"):
            Kubernetes(kubeconfig=file).look()
        edited(file, cluster={"certificate-authority-data": b64(strangers.cert_pem.bytes())})
        with pytest.raises(NoAnswer, match="CERTIFICATE_VERIFY_FAILED"):
            Kubernetes(kubeconfig=file).look()
        edited(file, user={"client-key-data": b64(b"no key")})
        with pytest.raises(UsageError, match="cannot be used"):
            Kubernetes(kubeconfig=file).look()
