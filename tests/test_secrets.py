"""Secrets stand in no message, log, page or file that is not theirs, however talkative a command is told to be."""

from __future__ import annotations

import json
import logging
from pathlib import Path
from runpy import run_path
from types import SimpleNamespace

import pytest

from skewscope import commands
from skewscope.commands import _parser
from skewscope.watch.live import Live, Options
from skewscope.web.access import Access

HERE = Path(__file__).parent
W = SimpleNamespace(**run_path(str(HERE / "watch" / "_watched.py")))
C = run_path(str(HERE / "acting" / "test_cases.py"))
receiver = run_path(str(HERE / "watch" / "notify" / "_receiver.py"))["receiver"]
SECRET = "s3cret"
HOT = "gpu-hw-slowdown"
QUIET = ("--listen", "127.0.0.1:0")
SCRAPED = ("watch", *QUIET, "--scrape", "127.0.0.1:1")
LOGIN, PATH, QUERY = f"ann:{SECRET}@127.0.0.1:1", f"127.0.0.1:1/services/{SECRET}", f"127.0.0.1:1/x?token={SECRET}"

MISTAKES = {
    "login of prometheus": ("watch", *QUIET, "--prometheus", f"http://{LOGIN}"),
    "login without scheme": ("watch", *QUIET, "--prometheus", LOGIN),
    "login with a slash": ("watch", *QUIET, "--prometheus", f"http://ann:{SECRET}/7@127.0.0.1:1"),
    "login of an agent": ("watch", *QUIET, "--scrape", f"n1=http://{LOGIN}/metrics"),
    "login of an agent with a slash": ("watch", *QUIET, "--scrape", f"http://ann:{SECRET}/7@n1:9709"),
    "webhook without scheme": (*SCRAPED, "--webhook", PATH),
    "webhook with a login": (*SCRAPED, "--webhook", f"https://{LOGIN}"),
    "webhook that is no address": (*SCRAPED, "--webhook", f"https://[h/services/{SECRET}"),
    "alertmanager with a login": (*SCRAPED, "--alertmanager", f"http://{LOGIN}"),
    "chat without scheme": (*SCRAPED, "--slack-file", "slack"),
    "header with a colon": (*SCRAPED, "--header", f"Authorization: Bearer {SECRET}"),
    "header with a line end": (*SCRAPED, "--header", f"X-Key={SECRET}\n{SECRET}"),
    "password that is no hash": ("agent", *QUIET, "--web-config", "password.yml"),
    "web file that is no YAML": ("agent", *QUIET, "--web-config", "broken.yml"),
    "key that is none": ("agent", *QUIET, "--web-config", "key.yml"),
    "engine's page with a login": ("agent", "--list", "--collectors", "serving", "--option",
                                   f"serving.urls=http://{LOGIN}/metrics"),
    "engine's page that is gone": ("agent", "--list", "--collectors", "serving", "--option",
                                   f"serving.urls=http://{QUERY}"),
    "flag that is none": ("watch", *QUIET, "--password", SECRET),
    "flag that is none, joined": ("top", f"--pasword={SECRET}", f"-p{SECRET}"),
    "flag that is none, with a colon": ("watch", *QUIET, f"--password:{SECRET}"),
    "flag that is none, before the command": ("--bearer-token", SECRET, "watch", *QUIET),
    "flag that is none, before a command below": ("audit", "--pasword", SECRET),
    "flag that takes nothing": ("watch", f"--web-allow-plain={SECRET}"),
    "flag that takes nothing, joined": ("watch", f"-q{SECRET}"),
    "secret that is no number": ("watch", "--tokn", SECRET, "--horizon", SECRET),
    "header without quotes": (*SCRAPED, "--header", "Authorization=Bearer", SECRET, "--horizon", SECRET),
    "login that is none of the choices": ("watch", "--log-format", f"http://{LOGIN}"),
    "login that is no number": ("watch", "--horizon", f"http://{LOGIN}"),
    "login among pairs": ("agent", "--option", f"http://{LOGIN},a"),
    "query that is no number": ("watch", "--horizon", f"http://{QUERY}"),
    "listening at a login": ("watch", "--listen", f"http://{LOGIN}", "--scrape", "127.0.0.1:1"),
    "recording that is a login": ("analyze", LOGIN),
    "file that is a login": ("act", f"http://{LOGIN}", "--scheduler", "slurm"),
    "name that is a login": ("schema", f"http://{LOGIN}"),
    "setting that is a login": ("--config", "numbers.toml", "watch"),
    "word too many": ("watch", *QUIET, SECRET),
    "top's header": ("top", "--header", SECRET),
    "dashboard's header": ("dashboard", "--header", SECRET),
    "dashboard's watch": ("dashboard", *QUIET, "--watch", f"http://{LOGIN}"),
    "dashboard's prometheus": ("dashboard", *QUIET, "--prometheus", f"http://{LOGIN}"),
    "top's watch": ("top", "--watch", f"http://{LOGIN}"),
    "top's watch without scheme": ("top", "--watch", LOGIN),
    "doctor's servers": ("doctor", "--prometheus", f"http://{LOGIN}", "--watch", f"http://{QUERY}", "--agent", LOGIN),
    "doctor's settings": ("doctor", "--settings", "settings.toml"),
    "settings": ("--config", "settings.toml", "watch", *QUIET),
    "verdicts": ("node-health", "--once", "--verdicts", f"https://{LOGIN}/v"),
    "remote recording": ("analyze", f"s3://key:{SECRET}@bucket/run/"),
    "webhook scheduler with a login": ("act", "report.json", "--scheduler", "webhook", "--policy", "login.toml"),
    "webhook scheduler, key misspelt": ("act", "report.json", "--scheduler", "webhook", "--policy", "key.toml"),
    "slurmrestd with a login": ("act", "report.json", "--scheduler", "slurm", "--policy", "slurm.toml"),
}  # fmt: skip
FILES = {
    "slack": f"https://{PATH}\n{PATH}\n",
    "password.yml": f"basic_auth_users: {{prom: {SECRET}}}\n",
    "broken.yml": f"basic_auth_users: {{prom: {SECRET}\n  x: [{SECRET}\n",
    "key.yml": f"tls_server_config: {{cert: |-\n  {SECRET}\n, key: {SECRET}}}\n",
    "settings.toml": f'[watch]\nheader = {{Authorization = "Bearer {SECRET}"}}\nwebhook = {{a = "https://{PATH}"}}\n',
    "numbers.toml": f'[watch]\nhorizon = "http://{LOGIN}"\n',
    "login.toml": f'[schedulers.webhook]\nurl = "http://{LOGIN}"\nmemory = "."\nnodes = ["n[0-7]"]\n',
    "key.toml": f'[schedulers.webhook]\nurl = "http://{PATH}"\nbearer_token = "{SECRET}"\n',
    "slurm.toml": f'[schedulers.slurm]\nrest_url = "http://{LOGIN}"\nrest_version = "v0.0.40"\n',
}


@pytest.fixture
def site(tmp_path, monkeypatch):
    """Stand in a folder with files that hold secrets, beside variables that do."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    for name in ("AWS_SECRET_ACCESS_KEY", "SLURM_JWT", "SKEWSCOPE_TOKEN"):
        monkeypatch.setenv(name, SECRET)
    for name in ("http_proxy", "https_proxy"):
        monkeypatch.setenv(name, f"http://{LOGIN}")
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    for name, text in FILES.items():
        (tmp_path / name).write_text(text)
    (tmp_path / "report.json").write_text(json.dumps(C["report"](C["finding"]())))
    return tmp_path


def tellers(folder: Path) -> list[str]:
    """Return the files below a folder, other than those that a test wrote, in which a secret stands."""
    written = {*FILES, "act.toml", "token", "secret"}
    found = (one for one in folder.rglob("*") if one.is_file() and one.name not in written)
    return [str(one) for one in found if SECRET.encode() in one.read_bytes()]


@pytest.mark.parametrize("form", ["text", "json"])
@pytest.mark.parametrize("words", MISTAKES.values(), ids=MISTAKES)
def test_what_is_refused_or_fails_is_told_without_its_secret(site, capfd, words, form):
    code = commands.main([*words, "-v", "--log-format", form])
    told = "".join(capfd.readouterr())
    assert told and SECRET not in told and "unexpected" not in told, (code, told)
    assert not tellers(site)


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("watch", "--password", SECRET, f"--tokn={SECRET}"),
         "unrecognized arguments: --password --tokn (did you mean --password-file?)"),
        (("anlyze",), "argument COMMAND: invalid choice (did you mean analyze?); there is act, agent, analyze, "),
        (("watch", "--log-format", "jsn"), "invalid choice: 'jsn' (did you mean json?); there is text, json"),
        (("watch", f"-q{SECRET}"), "argument -q/--quiet: takes no value"),
        (("watch", "--horizon", "x4"), "argument --horizon: invalid int value: 'x4'"),
        (("watch", "--horizon", f"http://{LOGIN}"), "invalid int value: 'http://...@127.0.0.1:1'"),
        (("--bearer-token", SECRET, "watch"), ", view, watch"),
    ],
)  # fmt: skip
def test_what_is_no_secret_is_told_of_a_mistake(words, says, capsys):
    assert commands.main(words) == 2
    assert says in capsys.readouterr().err


def test_no_flag_of_any_command_repeats_a_login(capsys):
    parsers = _parser.commands(_parser.build())
    for name, parser in parsers.items():
        for action in parser._actions:
            flag = (*action.option_strings, "")[0]
            if not flag or action.dest in ("help", "config"):
                continue
            words = [f"{flag}={SECRET}"] if action.nargs == 0 else [flag, f"http://{LOGIN}", "--no-such-flag"]
            assert commands.main([*name.split("."), *words]) == 2
            assert SECRET not in capsys.readouterr().err, (name, flag)
    assert len(parsers) > 40


@pytest.mark.parametrize("name", sorted(_parser.commands(_parser.build())))
def test_no_help_shows_what_variables_and_files_hold(site, capfd, monkeypatch, name):
    for flag in ("WEBHOOK", "HEADER", "SLACK_FILE", "PASSWORD_FILE", "BEARER_TOKEN_FILE", "ALERTMANAGER"):
        monkeypatch.setenv(f"SKEWSCOPE_{flag}", f"X={SECRET}")
    assert commands.main([*name.split("."), "--help"]) == 0
    assert SECRET not in "".join(capfd.readouterr())


def test_a_service_tells_no_secret_to_log_pages_or_files(site, caplog):
    caplog.set_level(logging.DEBUG)
    (site / "token").write_text(SECRET)
    with receiver() as hook:
        base = hook.url.removesuffix("/hook/secret")
        hook.answers = [(500, {}, "no"), (404, {}, "gone")] * 4
        hook.answers_of = {f"/services/{SECRET}": [(404, {}, "gone")] * 4, f"/chat?key={SECRET}": [(500, {}, "no")] * 4}
        options = Options(
            listen="127.0.0.1:0", only=(HOT,), folder=site / "watch", store=site / "store",
            webhooks=[f"{base}/services/{SECRET}"], chats=[f"{base}/chat?key={SECRET}", f"https://{PATH}"],
            alertmanagers=[base, "http://127.0.0.1:1"], access=Access(bearer_token_file=str(site / "token")),
        )  # fmt: skip
        feed = W.Feed(W.told(HOT, -8, 4))
        live = Live(feed, options)
        live.start()
        try:
            live.service.plan.clock_ns = lambda: feed.now_ns
            feed.service = live.service
            live.service.run()
            pages = [live.api.pages(path, {}) for path in live.api.routes if "{" not in path and "events" not in path]
        finally:
            live.close()
        assert {path for path, *_ in hook.seen} >= {f"/services/{SECRET}", f"/chat?key={SECRET}"}
        assert f"Bearer {SECRET}" in {headers["Authorization"] for _, headers, _ in hook.seen}
    assert "waits" in caplog.text and "is given up" in caplog.text
    assert SECRET not in caplog.text
    assert len(pages) > 5 and not [page for page in pages if SECRET.encode() in page.body]
    assert (site / "watch").is_dir() and not tellers(site)


def test_acts_tell_no_secret_to_the_audit(site, capfd):
    (site / "token").write_text(SECRET)
    (site / "secret").write_text(SECRET)
    with receiver() as hook:
        url = hook.url.replace("/hook/secret", f"/{SECRET}")
        settings = f'dry_run = false\nurl = "{url}"\nmemory = "memory"\nnodes = ["n[0-7]"]\n'
        files = 'secret_file = "secret"\nbearer_token_file = "token"\n'
        (site / "act.toml").write_text(
            'mode = "act"\n[capacity]\nspare_nodes = 0\n[ladder]\nstart = "drain"\n[schedulers.webhook]\n'
            f"{settings}{files}"
        )
        act = ["act", "report.json", "--scheduler", "webhook", "--policy", "act.toml", "--audit", "acts.jsonl", "-v"]
        (site / "memory").mkdir()
        assert commands.main([*act, "--json", "dry.json"]) == 0
        assert commands.main([*act, "--apply", "--json", "done.json"]) == 0
        (path, headers, _) = hook.seen[0]
        assert (path, headers["Authorization"]) == (f"/{SECRET}", f"Bearer {SECRET}")
        name = json.loads((site / "acts.jsonl").read_text().splitlines()[0])["act"]
        hook.answers = [(500, {}, "no")]
        for words in (
            ["audit", "list", "--audit", "acts.jsonl"],
            ["undo", name, "--policy", "act.toml", "--audit", "acts.jsonl"],
        ):
            commands.main([*words, "-v"])
    told = "".join(capfd.readouterr())
    assert "posted to" in told and SECRET not in told
    assert (site / "acts.jsonl").stat().st_size > 200 and not tellers(site)
