"""What the examinations say of machines, files and servers made for them."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from skewscope.commands import main
from skewscope.doctor import Answer, folders, packages, services
from skewscope.doctor.services import asked
from skewscope.web.access import Access


class Served(BaseHTTPRequestHandler):
    pages = {"/api/v1/status/buildinfo": '{"status": "success", "data": {"version": "2.42.0"}}', "/metrics": "up 1\n"}

    def do_GET(self):
        if self.path.startswith("/closed"):
            self.send_response(401)
            self.end_headers()
            return
        body = self.pages.get(self.path, "").encode()
        self.send_response(200 if body else 404)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_):
        pass


@pytest.fixture(scope="module")
def server():
    made = ThreadingHTTPServer(("127.0.0.1", 0), Served)
    threading.Thread(target=made.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{made.server_address[1]}"
    made.shutdown()
    made.server_close()


def test_a_server_that_answers_tells_its_version(server):
    found = asked("prometheus", server, Access())
    assert found.state == "ok" and found.found.endswith(", version 2.42.0")


@pytest.mark.parametrize(
    ("kind", "path", "said", "mend"),
    [
        ("agent", "", "not as a agent does", "name the address"),
        ("watch", "", "answers 404", "right address"),
        ("watch", "/closed", "answers 401", "--password-file"),
    ],
)
def test_a_server_of_another_kind_is_told(server, kind, path, said, mend):
    found = asked(kind, server + path, Access())
    assert found.state == "trouble" and said in found.found and mend in found.mend


def test_nobody_there_and_no_address():
    gone = asked("watch", "http://127.0.0.1:1", Access())
    assert gone.state == "trouble" and "refused" in gone.found
    told = asked("watch", "http://ann:secret@127.0.0.1:1", Access())
    assert told.state == "trouble" and "secret" not in told.found + told.mend and "--password-file" in told.mend
    assert asked("watch", "ftp://host", Access()).state == "trouble"
    assert list(services.services({}, Access())) == []


def test_packages_of_every_extra_are_told(monkeypatch):
    found = {one.name: one for one in packages.packages()}
    assert found["python"].state == found["required"].state == found["[analysis]"].state == "ok"
    monkeypatch.setattr(packages, "_is_installed", lambda name: name != "pandas")
    lacking = {one.name: one for one in packages.packages()}["[analysis]"]
    assert (
        lacking.state == "absent" and "pandas" in lacking.found and lacking.mend == "pip install 'skewscope[analysis]'"
    )
    assert packages.of_extra("", ["psutil", "pandas"]).state == "trouble"


def test_folders(tmp_path: Path, monkeypatch):
    assert folders.spool(tmp_path).state == "ok"
    assert folders.spool(tmp_path / "none").mend.startswith("mkdir")
    assert folders.room(tmp_path / "a/b", "store").state == "ok"
    monkeypatch.setattr(folders.shutil, "disk_usage", lambda _: type("U", (), {"free": 2**20, "total": 2**40})())
    assert folders.room(tmp_path, "store").state == "trouble"
    monkeypatch.setattr(folders.os, "access", lambda *_: False)
    assert folders.spool(tmp_path).state == folders.room(tmp_path, "store").state == "trouble"


def test_a_settings_file_is_held_against_every_command(tmp_path: Path, capsys):
    path = tmp_path / "skewscope.toml"
    path.write_text('quiet = true\n[watch]\nhorizon = "many"\n[analyse]\nworkers = 4\n[agent]\nintervall = 3\n')
    assert main(["doctor", "--settings", str(path), "--json"]) == 1
    told = json.loads(capsys.readouterr().out)
    found = [one["found"] for one in told["answers"] if one["area"] == "settings"]
    assert any(one.startswith(f"{path}:3: watch.horizon") for one in found)
    assert any(one.startswith(f"{path}:4: section analyse is unknown; did you mean analyze") for one in found)
    path.write_text("[watch]\nhorizon = 30\n[plan.moe]\nslots = 8\n")
    main(["doctor", "--settings", str(path), "--json"])
    told = json.loads(capsys.readouterr().out)
    assert [one["state"] for one in told["answers"] if one["area"] == "settings"] == ["ok"]
    path.write_text("[watch\n")
    main(["doctor", "--settings", str(path)])
    assert "is not valid TOML" in capsys.readouterr().out


def test_the_page_says_what_to_do(server, capsys):
    assert main(["doctor", "--prometheus", server, "--agent", "127.0.0.1:1"]) == 1
    out = capsys.readouterr().out
    assert "[ok] prometheus" in out and "[!!] agent" in out and "-> is it running" in out
    assert "1 in trouble" in out and "collectors read" in out


def test_states_are_known():
    with pytest.raises(ValueError, match="none of ok, absent, trouble"):
        Answer("a", "b", "fine", "c")
