from __future__ import annotations

import re
import tomllib
from importlib.resources import files
from pathlib import Path

import msgspec
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from switch.config import Config, ConfigError, Link, key_path, link_terms, load, notes, parse
from switch.config_trouble import Upstream

LONG_RUN = re.compile(r"\d{13}")
SHIPPED = files("switch").joinpath("citycard.toml").read_text(encoding="utf-8")


def problems_of(text: str) -> dict[str, tuple[str, str]]:
    with pytest.raises(ConfigError) as refused:
        parse(text, "test.toml")
    return {each.key: (each.problem, each.remedy) for each in refused.value.problems}


def test_an_empty_file_is_all_defaults() -> None:
    assert parse("", "empty.toml") == Config() == load(None)


def test_the_shipped_file_says_the_defaults() -> None:
    assert parse(SHIPPED, "citycard.toml") == Config()


def test_the_shipped_file_names_every_key() -> None:
    def missing(wanted: object, said: object, path: str) -> list[str]:
        match wanted, said:
            case dict(), dict():
                lacking = [f"{path}.{name}" for name in wanted.keys() - said.keys()]
                both = wanted.keys() & said.keys()
                deeper = (missing(wanted[name], said[name], f"{path}.{name}") for name in both)
                return lacking + [key for keys in deeper for key in keys]
            case ((list() | tuple()), list()):
                return missing(wanted[0], said[0], f"{path}[0]") if wanted and said else []
            case _:
                return []

    # There is no upstream as shipped, so its table stands there as a comment.
    commented = re.sub(r"(?m)^#   ", "", SHIPPED)
    upstream = Upstream("city-b", "192.0.2.7", 8583, ("622848",), "48021000")
    config = msgspec.structs.replace(Config(), upstreams=(upstream,))
    assert missing(msgspec.to_builtins(config), tomllib.loads(commented), "") == []


def test_the_upstream_of_the_comment_is_the_default() -> None:
    config = parse(re.sub(r"(?m)^#   ", "", SHIPPED), "citycard.toml")
    assert config.upstreams == (Upstream("city-b", "192.0.2.7", 8583, ("622848",), "48021000"),)


def test_a_part_of_a_table_keeps_the_other_defaults() -> None:
    config = parse("[tiers.T1]\nbalance_cap_minor = 7", "test.toml")
    assert config.tiers.balance_caps_minor() == {"T0": 100_000, "T1": 7, "T2": 500_000}


@pytest.mark.parametrize(
    ("text", "key", "says"),
    [
        ("[ledger]\nshards = 0", "ledger.shards", "from 1 to 64"),
        ("[ledger]\nshards = 65", "ledger.shards", "from 1 to 64"),
        ("[ledger]\nshards = 4.0", "ledger.shards", "a decimal number stands here"),
        ('[ledger]\nshards = "4"', "ledger.shards", "a text stands here"),
        ("[ledger]\nshards = 1979-05-27", "ledger.shards", "a date or time stands here"),
        ("[ledger]\nshard = 4", "ledger.shard", "did you mean shards?"),
        ('[ledger]\ntime_zone = "Mars/Base"', "ledger.time_zone", "Asia/Shanghai"),
        ('[ledger]\ntime_zone = "../passwd"', "ledger.time_zone", "Asia/Shanghai"),
        ('[ledger]\ntime_zone = "America"', "ledger.time_zone", "Asia/Shanghai"),
        ('[ledger]\ncut_off = "24:00"', "ledger.cut_off", "HH:MM"),
        ('[ledger]\ncut_off = "4:00"', "ledger.cut_off", "HH:MM"),
        ('[ledger]\ncurrency = "CNY"', "ledger.currency", "three-digit"),
        ('[ledger]\ndatabase = "mysql://x"', "ledger.database", "postgresql://"),
        ("[server]\nmetrics_port = true", "server.metrics_port", "TCP port"),
        ("[server]\nmetrics_port = 65535\nworkers = 2", "server.metrics_port", "65534 or less"),
        ('[server]\nhost = "example.org"', "server.host", "127.0.0.1"),
        ('[server]\nbackend = "uvloop"', "server.backend", '"asyncio", "trio"'),
        ("[limits]\nbatch_max = 100\nlane_queue_max = 10", "limits.batch_max", "10 or less"),
        ("[limits]\nframe_bytes_max = 65536", "limits.frame_bytes_max", "256 to 65535"),
        ("[limits]\nidle_seconds = 5", "limits.first_frame_seconds", "limits.idle_seconds"),
        ("[tiers.T0]", "tiers.T0.balance_cap_minor", "it is missing"),
        ("[tiers.T9]\nx = 1", "tiers.T9", "there is no such key"),
        ('[purses]\norder = ["TRN", "TRN"]', "purses.order", "each purse once"),
        ("[purses]\norder = []", "purses.order", "each purse once"),
        ('[purses]\norder = ["MED"]', "purses.order[0]", '"TRN", "GEN"'),
        ('[purses.TRN]\nmccs = ["411"]', "purses.TRN.mccs[0]", "four-digit"),
        ("ledger = 1", "ledger", "write a [ledger] table"),
        ("links = 1", "links", "write [[links]] tables"),
        ("links = []", "links", "write 1 to 64"),
        ("[[links]]\nbudget_ms = 9", "links[0].budget_ms", "10 to 60000"),
        ("[[links]]\nbudget_ms = 60001", "links[0].budget_ms", "10 to 60000"),
        ("[[links]]\nport = 65536", "links[0].port", "0 to 65535"),
        ("[[links]]\nport = 9464", "links[0].port", "outside of 9464 to 9464"),
        ('[[links]]\ndialect = "iso93"', "links[0].dialect", '"unionpay_pos"'),
        ('[[links]]\nsegment = "bus"', "links[0].segment", '"transit"'),
        ('[[links]]\nname = "Retail 1"', "links[0].name", "small letters"),
        ('[[links]]\nname = "a6222020000000000"', "links[0].name", "no long number"),
        ('[[links]]\ncurrencies = ["344"]', "links[0].currencies", '["156"]'),
        ('[[links]]\nmatch_key = ["stan"]', "links[0].match_key", 'add "terminal"'),
        (
            '[[links]]\nmatch_key = ["stan", "terminal", "stan"]',
            "links[0].match_key",
            "each part once",
        ),
        ('[[links]]\nmatch_key = ["stan", "pan"]', "links[0].match_key[1]", '"terminal"'),
        (
            '[[links]]\n[links.framing]\nlength = "ascii4"\n[limits]\nframe_bytes_max = 10000',
            "links[0].framing.length",
            "9999 bytes",
        ),
        (
            "[[links]]\n[[links]]\n[links.framing]\nheader_bytes = -1",
            "links[1].framing.header_bytes",
            "0 to 64",
        ),
        ("[[links]]\n[[links]]\nport = 1", "links[1].name", "a name of its own"),
        ('[[links]]\n[[links]]\nname = "b"', "links[1].port", "a port of its own"),
    ],
)
def test_what_is_wrong_is_named_with_its_key_and_remedy(text: str, key: str, says: str) -> None:
    problems = problems_of(text)
    assert key in problems
    assert says in " ".join(problems[key])


def test_all_problems_come_at_once_and_none_is_drawn_from_another() -> None:
    problems = problems_of(
        '[ledger]\nshards = "4"\ncurrency = "CNY"\nzone = 1\n[[links]]\nport = "x"\n'
        '[[links]]\nname = "b"\nbudget_ms = 1'
    )
    # links[1].port is the default, as links[0].port is only because it could not be read
    assert set(problems) == {
        "ledger.shards",
        "ledger.currency",
        "ledger.zone",
        "links[0].port",
        "links[1].budget_ms",
    }


def test_any_free_port_may_be_asked_for_by_many_links() -> None:
    text = "[server]\nmetrics_port = 0\nworkers = 8\n" + "".join(
        f'[[links]]\nname = "link-{n}"\nport = 0\n' for n in range(5)
    )
    assert [link.port for link in parse(text, "test.toml").links] == [0] * 5


@given(st.text(max_size=60))
@example("a = " + "1" * 5_000)
@example("a = " + "[" * 5_000)
@example('"6222021234567890123" = 1')
@example("6222021234567890123 = 6222021234567890123")
@example('["6222021234567890123\\u001b[31m"]\nx=1')
@example('ledger.shards = 6222021234567890123\nlinks = ["6222021234567890123"]')
def test_any_text_is_a_configuration_or_a_config_error_without_card_numbers(text: str) -> None:
    try:
        parse(text, "6222021234567890123.toml")
    except ConfigError as error:
        refused = error
    else:
        return
    assert refused.problems
    for shown in [str(refused), refused.source, *map(str, refused.problems)]:
        assert not LONG_RUN.search(shown)
        assert "\x1b" not in shown


def test_a_file_that_cannot_be_read_is_one_problem(tmp_path: Path) -> None:
    (tmp_path / "latin.toml").write_bytes(b"# \xe9\n")
    (tmp_path / "large.toml").write_bytes(b"#" * 1_048_577)
    for name, says in (
        ("none.toml", "No such file"),
        ("", "directory"),
        ("latin.toml", "byte 2 is not UTF-8"),
        ("large.toml", "longer than 1 MiB"),
    ):
        with pytest.raises(ConfigError) as refused:
            load(tmp_path / name)
        assert len(refused.value.problems) == 1
        assert says in str(refused.value)


def test_a_toml_error_says_where() -> None:
    assert "at line 2, column 10" in problems_of("[ledger]\nshards = @")["file"][0]


def test_listening_beyond_loopback_is_noted() -> None:
    assert notes(Config()) == []
    assert notes(parse('[server]\nhost = "::1"', "test.toml")) == []
    open_to_all = parse('[server]\nhost = "0.0.0.0"', "test.toml")
    assert [note.key for note in notes(open_to_all)] == ["server.host"]


def test_the_key_is_in_the_directory_unless_a_file_is_named() -> None:
    assert key_path(Config(), Path("somewhere")) == Path("somewhere/card_number.key")
    named = parse('[keys]\ncard_number_key_file = "/run/secrets/key"', "test.toml")
    assert key_path(named, Path("somewhere")) == Path("/run/secrets/key")


def test_link_terms_carry_what_the_link_says() -> None:
    terms = link_terms(Link(), Config())
    assert (terms.name, terms.acquirer, terms.budget_ms) == ("retail-1", "48021000", 800)
    assert terms.framing.frame_bytes_max == Config().limits.frame_bytes_max
    assert terms.match_key == Link().match_key


@pytest.mark.parametrize("length", ["binary2", "ascii4"])
@pytest.mark.parametrize("frame_bytes_max", [256, 9_999])
def test_what_the_checks_let_through_is_good_enough_for_the_protocols(
    length: str, frame_bytes_max: int
) -> None:
    config = parse(
        f"""
        [limits]
        frame_bytes_max = {frame_bytes_max}
        [[links]]
        budget_ms = 10
        match_key = ["stan", "terminal"]
        framing = {{ length = "{length}", tpdu = true, header_bytes = 64 }}
        """,
        "test.toml",
    )
    assert link_terms(config.links[0], config).framing.kind == length
