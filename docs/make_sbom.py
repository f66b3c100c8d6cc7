"""Writes a bill of materials (CycloneDX 1.5, JSON): skewscope, what it declares to need, and what of that is installed.

    python docs/make_sbom.py dist/skewscope-*.whl > skewscope.cdx.json

It speaks of the environment it runs in: versions, licences and needs are those of the installed distributions. Such
that only an extra asks for have the scope "optional". Extras of development (test, bench) are left out.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
import uuid
import zipfile
from collections.abc import Iterator
from datetime import UTC, datetime
from email import message_from_bytes
from email.message import Message
from importlib import metadata
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

OURS = "skewscope"
DEVELOPMENT = {"test", "bench"}
LONGEST_NAME = 100  # some put the whole text of their licence there
Component = dict[str, Any]


def bill(wheel: Path, time_s: int) -> str:
    """Return the document for a wheel as of a time (s, Unix epoch): the same for the same wheel and environment."""
    about = _of_wheel(wheel)
    needed = {name: scope for scope, name in _needed(about)}
    installed = {name: found for name in sorted(needed) if (found := _installed(name))}
    parts = [_component(found.metadata, needed[name], _origin(found)) for name, found in installed.items()]
    parts += [_missing(name, scope) for name, scope in sorted(needed.items()) if name not in installed]
    whole = _component(about, "", [("SHA-256", hashlib.sha256(wheel.read_bytes()).hexdigest())])
    refs = {canonicalize_name(part["name"]): part["bom-ref"] for part in parts}
    told = {
        "bomFormat": "CycloneDX",
        "specVersion": "1.5",
        "version": 1,
        "metadata": {
            "timestamp": datetime.fromtimestamp(time_s, UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
            "component": whole,
        },
        "components": parts,
        "dependencies": [
            _edges(
                whole["bom-ref"], _requirements(about, set(about.get_all("Provides-Extra", [])) - DEVELOPMENT), refs
            ),
            *(_edges(refs[name], _requirements(found.metadata, set()), refs) for name, found in installed.items()),
        ],
    }
    name = uuid.uuid5(uuid.NAMESPACE_URL, json.dumps(told, sort_keys=True))
    return json.dumps({"serialNumber": f"urn:uuid:{name}", **told}, indent=2) + "\n"


def _of_wheel(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        (name,) = (one for one in archive.namelist() if one.endswith(".dist-info/METADATA"))
        return message_from_bytes(archive.read(name))


def _requirements(about: Message, extras: set[str]) -> set[tuple[str, frozenset[str]]]:
    """Return (name, extras) of what a distribution needs here, with these extras of its own."""
    return {
        (canonicalize_name(one.name), frozenset(one.extras))
        for one in map(Requirement, about.get_all("Requires-Dist", []))
        if one.marker is None or any(one.marker.evaluate({"extra": extra}) for extra in {"", *extras})
    }


def _needed(about: Message) -> Iterator[tuple[str, str]]:
    """Yield (scope, name) of all that is needed, directly or not; "required" comes last, and so wins."""
    extras = set(about.get_all("Provides-Extra", [])) - DEVELOPMENT
    for scope, own in (("optional", extras), ("required", set())):
        seen: set[tuple[str, frozenset[str]]] = set()
        rest = _requirements(about, own)
        while rest:
            seen |= rest
            found = [(_installed(name), asked) for name, asked in rest]
            rest = {one for got, asked in found if got for one in _requirements(got.metadata, set(asked))} - seen
        yield from ((scope, name) for name, _ in sorted(seen, key=lambda one: one[0]) if name != OURS)


def _installed(name: str) -> metadata.Distribution | None:
    try:
        return metadata.distribution(name)
    except metadata.PackageNotFoundError:
        return None


def _component(about: Message, scope: str, hashes: list[tuple[str, str]]) -> Component:
    name, version = str(about["Name"]), str(about["Version"])
    purl = f"pkg:pypi/{canonicalize_name(name)}@{version}"
    made: Component = {"type": "library", "bom-ref": purl, "name": name, "version": version, "purl": purl}
    if scope:
        made["scope"] = scope
    if about.get("Summary"):
        made["description"] = str(about["Summary"])
    if licences := _licences(about):
        made["licenses"] = licences
    if hashes:
        made["hashes"] = [{"alg": kind, "content": told} for kind, told in hashes]
    return made


def _missing(name: str, scope: str) -> Component:
    """Return what is declared and not installed here: its version is not known."""
    purl = f"pkg:pypi/{name}"
    return {"type": "library", "bom-ref": purl, "name": name, "purl": purl, "scope": scope}


def _licences(about: Message) -> list[dict[str, Any]]:
    if expression := about.get("License-Expression"):
        return [{"expression": str(expression)}]
    kinds = [one.rpartition(" :: ")[2] for one in about.get_all("Classifier", []) if one.startswith("License ::")]
    kinds = [one for one in kinds if one != "OSI Approved"]
    told = str(about.get("License") or "").strip()
    if not kinds and told and "\n" not in told and len(told) <= LONGEST_NAME:
        kinds = [told]
    return [{"license": {"name": one}} for one in kinds]


def _origin(found: metadata.Distribution) -> list[tuple[str, str]]:
    """Return the hash of the archive that it was installed from, where the installer wrote it down (PEP 610)."""
    try:
        archive = json.loads(found.read_text("direct_url.json") or "{}").get("archive_info", {})
    except ValueError:
        return []
    sha256 = archive.get("hashes", {}).get("sha256", "") or archive.get("hash", "").removeprefix("sha256=")
    return [("SHA-256", sha256)] if re.fullmatch(r"[0-9a-f]{64}", sha256) else []


def _edges(ref: str, needs: set[tuple[str, frozenset[str]]], refs: dict[str, str]) -> Component:
    return {"ref": ref, "dependsOn": sorted({refs[name] for name, _ in needs if name in refs})}


if __name__ == "__main__":
    sys.stdout.write(bill(Path(sys.argv[1]), int(os.environ.get("SOURCE_DATE_EPOCH") or 0)))
