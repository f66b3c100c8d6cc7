"""The container file, read and not built: nothing here can build it. It holds the least, and no rights."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from pathlib import Path

import pytest
import yaml

from skewscope.commands import _parser

ROOT = Path(__file__).parents[2]
DEPLOY = ROOT / "agents" / "deploy"
TEXT = (DEPLOY / "Containerfile").read_text()
SETUP = tomllib.loads((ROOT / "pyproject.toml").read_text())


def instructions() -> list[tuple[str, str]]:
    """Return (instruction, its words) in order, with lines that go on joined and comments gone."""
    plain = "\n".join(line for line in TEXT.splitlines() if not line.startswith("#")).replace("\\\n", " ")
    return [(line.split(None, 1)[0], line.split(None, 1)[1]) for line in plain.splitlines() if line.strip()]


def of(name: str) -> list[str]:
    return [words for kind, words in instructions() if kind == name]


def stages() -> list[list[tuple[str, str]]]:
    found: list[list[tuple[str, str]]] = []
    for one in instructions():
        if one[0] == "FROM":
            found.append([])
        found[-1].append(one)
    return found


def test_both_stages_stand_on_one_slim_base_whose_version_is_named():
    bases = [words.split()[0] for words in of("FROM")]
    assert len(bases) == 2 and len(set(bases)) == 1
    version = re.fullmatch(r"docker\.io/library/python:(3\.\d+)\.\d+-slim-[a-z]+(@sha256:[0-9a-f]{64})?", bases[0])
    least = SETUP["project"]["requires-python"].removeprefix(">=")
    assert version and tuple(map(int, version[1].split("."))) >= tuple(map(int, least.split(".")))


def test_what_it_runs_as_is_nobody_and_the_user_of_the_daemonset():
    last = [kind for kind, _ in stages()[-1]]
    (user,) = of("USER")
    pod = yaml.safe_load((DEPLOY / "daemonset.yaml").read_text())["spec"]["template"]["spec"]["securityContext"]
    assert user == f"{pod['runAsUser']}:{pod['runAsGroup']}" and int(user.split(":")[0]) > 0
    assert "USER" in last and "RUN" not in last[last.index("USER") :]


def test_nothing_comes_from_an_address_but_the_packages():
    assert not of("ADD")
    assert not re.search(r"https?://|\b(curl|wget|apt-get|git)\b", "\n".join(words for _, words in instructions()))
    assert not re.search(r"password|token|secret", " ".join(of("ENV") + of("ARG")), re.IGNORECASE)


def test_the_last_stage_holds_what_was_installed_and_nothing_else():
    kinds = [kind for kind, _ in stages()[-1]]
    assert kinds == ["FROM", "COPY", "ENV", "USER", "EXPOSE", "ENTRYPOINT", "CMD"]
    assert stages()[-1][1] == ("COPY", "--from=build /opt/skewscope /opt/skewscope")
    (run,) = of("RUN")
    assert "--without-pip" in run and "--no-cache-dir" in run
    assert of("ARG") == ['EXTRAS=""'], "unless asked, the agent's own dependencies alone"


def test_what_is_copied_is_what_the_package_is_built_of():
    copied = [words for kind, words in stages()[0] if kind == "COPY"]
    sources = {source for words in copied for source in shlex.split(words)[:-1]}
    wanted = {"pyproject.toml", SETUP["project"]["readme"], *SETUP["project"]["license-files"]}
    wanted |= set(SETUP["tool"]["setuptools"]["package-dir"].values())
    wanted |= {file for files in SETUP["tool"]["setuptools"]["data-files"].values() for file in files}
    assert sources == wanted and all((ROOT / source).exists() for source in sources)


def test_the_port_is_the_agents_and_loopback_is_spoken_of():
    (port,) = of("EXPOSE")
    assert _parser.commands(_parser.build("agent"))["agent"].get_default("listen") == f"127.0.0.1:{port}"
    remark = TEXT[: TEXT.index("EXPOSE")].rpartition("USER")[2]
    assert "loopback" in remark and "--web-config" in remark


@pytest.mark.parametrize("kind", ["ENTRYPOINT", "CMD"])
def test_it_is_started_without_a_shell(kind):
    (words,) = of(kind)
    assert json.loads(words)


def test_what_it_starts_is_a_command():
    (entry,), (words,) = map(json.loads, of("ENTRYPOINT")), map(json.loads, of("CMD"))
    assert entry == list(SETUP["project"]["scripts"]) and _parser.build().parse_args(words).command == "agent"
