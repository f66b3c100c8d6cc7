import argparse
from pathlib import Path

import pytest

from skewscope.commands import _parser, _settings
from skewscope.errors import UsageError


def parsed(words, environ=None):
    parser = _parser.build()
    before = _settings.apply(parser, _parser.commands(parser), words, environ or {})
    args = parser.parse_args(words)
    _settings.give_way(args, words, before)
    return args


@pytest.fixture
def config(tmp_path):
    def write(text):
        path = tmp_path / "skewscope.toml"
        path.write_text(text)
        return str(path)

    return write


def test_flag_beats_environment_beats_file_beats_default(config):
    path = config("[analyze]\nworkers = 2\n")
    assert parsed(["analyze", "x"]).workers is None
    assert parsed(["--config", path, "analyze", "x"]).workers == 2
    assert parsed(["analyze", "x", f"--config={path}"], {"SKEWSCOPE_WORKERS": "3"}).workers == 3
    assert parsed(["analyze", "x", "--workers", "4"], {"SKEWSCOPE_WORKERS": "3", "SKEWSCOPE_CONFIG": path}).workers == 4


def test_top_level_keys_are_for_every_command(config):
    path = config('workers = 5\nlog-format = "json"\nverbose = true\n')
    for command in (["analyze", "x"], ["convert", "x", "--out", "y"]):
        args = parsed([*command, "--config", path])
        assert (args.workers, args.log_format, args.verbose) == (5, "json", True)
    assert parsed(["schema", "ops", "--config", path]).log_format == "json"
    assert parsed(["-vv", "schema", "ops"]).verbose is True


def test_a_section_beats_the_top_level_and_gives_required_flags(config):
    path = config('workers = 5\n[convert]\nworkers = 6\nout = "there"\n[analyze]\nonly = ["a", "b"]\nfail_on = "S2"\n')
    args = parsed(["convert", "x", "--config", path])
    assert (args.workers, args.out) == (6, "there")
    args = parsed(["analyze", "x", "--config", path])
    assert (args.workers, args.only, args.fail_on) == (5, ("a", "b"), "S2")


SOURCES = {"SKEWSCOPE_SPOOL": "/spool", "SKEWSCOPE_STORE": "/store", "SKEWSCOPE_PROMETHEUS": "http://p:9090"}


@pytest.mark.parametrize(
    ("words", "environ", "named"),
    [
        ("top --watch http://w", SOURCES, {"watch": "http://w", "spool": None}),
        ("top --scrape=n1:9709", {**SOURCES, "SKEWSCOPE_WATCH": "http://w"}, {"watch": "http://w", "spool": None}),
        ("top --spool /mine", {"SKEWSCOPE_WATCH": "http://w", **SOURCES}, {"watch": "", "spool": Path("/mine")}),
        ("top", SOURCES, {"watch": "", "spool": Path("/spool")}),
        ("dashboard --report r", SOURCES, {"report": Path("r"), "store": None, "prometheus": ""}),
        ("dashboard here", {**SOURCES, "SKEWSCOPE_WATCH": "http://w"}, {"store": None, "prometheus": "", "watch": ""}),
        ("dashboard --store s", SOURCES, {"store": Path("s"), "prometheus": ""}),
        ("dashboard --store /store", SOURCES, {"store": Path("/store"), "prometheus": ""}),
        ("dashboard --watch http://w", {"SKEWSCOPE_STORE": "/store"}, {"store": Path("/store"), "watch": "http://w"}),
        ("dashboard", {"SKEWSCOPE_STORE": "/s", "SKEWSCOPE_WATCH": "w"}, {"store": Path("/s"), "watch": "w"}),
        ("watch --scrape n1:9709", SOURCES, {"prometheus": None, "scrape": ("n1:9709",), "store": Path("/store")}),
        ("watch --prometheus http://q", {"SKEWSCOPE_SCRAPE": "n1"}, {"prometheus": "http://q", "scrape": ()}),
    ],
)
def test_a_source_that_words_name_beats_settings_of_another(words, environ, named):
    args = vars(parsed(words.split(), environ))
    assert {key: args[key] for key in named} == named


def test_two_flags_that_do_not_go_together_both_stay():
    args = parsed("top --watch http://w --spool /mine".split(), SOURCES)
    assert (args.watch, args.spool) == ("http://w", Path("/mine"))


def test_a_source_in_the_file_gives_way_too(config):
    path = config('[watch]\nprometheus = "http://p:9090"\n')
    assert parsed(["watch", "--config", path]).prometheus == "http://p:9090"
    assert parsed(["watch", "--config", path, "--scrape", "n1:9709"]).prometheus is None


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[analyze]\nworker = 2\n", r"analyze\.worker is unknown; did you mean workers"),
        ("workrs = 2\n", "workrs is unknown; did you mean workers"),
        ("[analyse]\nworkers = 2\n", "section analyse is unknown; did you mean analyze"),
        ("[analyze]\nworkers = 0\n", "analyze.workers = 0 does not fit"),
        ("[analyze]\nworkers = true\n", "wants a value"),
        ('[analyze]\nfail_on = "S7"\n', "none of S1, S2, S3, S4"),
        ('[demo]\nno_open = "maybe"\n[analyze]\n', None),
        ("quiet = 'very'\n", "neither true nor false"),
        ("= 3", "not valid TOML"),
    ],
)
def test_wrong_settings_name_the_key(config, text, said):
    words = ["analyze", "x", "--config", config(text)]
    if said is None:
        assert parsed(words).workers is None
        return
    with pytest.raises(UsageError, match=said):
        parsed(words)


def test_environment_of_other_parts_is_left_alone():
    assert parsed(["analyze", "x"], {"SKEWSCOPE_SPOOL": "/x", "SKEWSCOPE_FAIL_ON": "S3"}).fail_on == "S3"
    with pytest.raises(UsageError, match="SKEWSCOPE_WORKERS = 'two' does not fit"):
        parsed(["analyze", "x"], {"SKEWSCOPE_WORKERS": "two"})
    assert parsed(["demo"], {"SKEWSCOPE_NO_OPEN": "1"}).no_open is True


def test_the_address_of_a_server_is_no_switch(config):
    """The variable that `watch --prometheus URL` reads, and the same key of a file that all commands share."""
    given = {"SKEWSCOPE_PROMETHEUS": "http://prometheus:9090"}
    assert parsed(["watch"], given).prometheus == "http://prometheus:9090"
    assert parsed(["up"], given).with_prometheus is False
    assert parsed(["up", "--config", config('prometheus = "http://prometheus:9090"\n')]).with_prometheus is False
    assert parsed(["up"], {"SKEWSCOPE_WITH_PROMETHEUS": "yes"}).with_prometheus is True
    assert parsed(["up", "--prometheus"]).with_prometheus is True


def test_a_variable_is_a_switch_for_all_commands_or_for_none():
    kinds: dict[str, set[bool]] = {}
    for place in _parser.commands(_parser.build()).values():
        for key, action in _settings._actions(place).items():
            kinds.setdefault(key, set()).add(action.nargs == 0)
    # Of a single call: nobody sets these for all.
    assert {key for key, found in kinds.items() if len(found) > 1} == {"json", "acts"}


def test_missing_file():
    with pytest.raises(UsageError, match="cannot read the settings file"):
        parsed(["analyze", "x", "--config", "/not/there.toml"])


def nested():
    """Return a parser whose command `plan` holds `moe` and `batch`, as the real one holds its planners."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--log-format", default="text")
    plan = parser.add_subparsers(dest="command").add_parser("plan")
    places = plan.add_subparsers(dest="planner")
    moe, batch = places.add_parser("moe"), places.add_parser("batch")
    moe.add_argument("loads")
    moe.add_argument("--gpus", type=int, required=True)
    batch.add_argument("--ranks", type=int)
    return parser


@pytest.mark.parametrize(
    ("text", "environ", "gpus"),
    [
        ("[plan.moe]\ngpus = 4\n", {}, 4), ("[plan]\ngpus = 5\n", {}, 5), ("gpus = 6\n", {}, 6),
        ("[plan.moe]\ngpus = 4\n[plan]\nranks = 9\ngpus = 5\n", {}, 4), ("[plan.moe]\ngpus = 4\n", {"GPUS": "8"}, 8),
    ],
)  # fmt: skip
def test_what_a_command_holds_has_settings_too(config, text, environ, gpus):
    parser, words = nested(), ["plan", "moe", "batch", "--config", config(text)]
    parser.add_argument("--config")
    _parser._shared(_parser.commands(parser)["plan.moe"])
    given = {f"SKEWSCOPE_{name}": value for name, value in environ.items()}
    _settings.apply(parser, _parser.commands(parser), words, given)
    args = parser.parse_args(words)
    assert (args.loads, args.gpus, args.log_format) == ("batch", gpus, "text")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[plan.moe]\nranks = 4\n", r"key plan\.moe\.ranks is unknown"), ("[plan.mow]\ngpus = 1\n", r"plan\.mow"),
        ("[plan]\ngpu = 1\n", "did you mean gpus"), ('[plan.moe]\ngpus = "x"\n', r"plan\.moe\.gpus = 'x' does not fit"),
    ],
)  # fmt: skip
def test_wrong_settings_of_what_a_command_holds_name_the_key(config, text, said):
    parser = nested()
    with pytest.raises(UsageError, match=said):
        _settings.apply(parser, _parser.commands(parser), ["plan", "moe", "x", "--config", config(text)], {})
