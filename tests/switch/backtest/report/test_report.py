"""What lies in the directory of a report: a page that stands alone, and a file for each figure."""

from __future__ import annotations

import re
from datetime import UTC
from html.parser import HTMLParser
from xml.etree import ElementTree
from zoneinfo import ZoneInfo

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from risk.backtest_result import Affected, BacktestResult
from switch.backtest.drawing import paper, render
from switch.backtest.page import drawn, page
from switch.backtest.report import ReportUnwritable, write_report
from switch.backtest.result_tables import result_tables
from switch.backtest.tables import Table
from switch.backtest.wording import printable

NAMES = ("big", "empty", "odd")
SVG = "{http://www.w3.org/2000/svg}"
XLINK = "{http://www.w3.org/1999/xlink}href"
VOID = {"meta", "br", "hr", "link", "img", "input"}


class Outline(HTMLParser):
    """Elements, links, ids and text; fails on a tag that is not closed where it must be."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[str] = []
        self.open: list[str] = []
        self.links: list[str] = []
        self.ids: list[str] = []
        self.attributes: set[str] = set()
        self.said: list[str] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            self.attributes.add(name)
            if name in ("href", "xlink:href", "src"):
                self.links.append(value or "")
            if name == "id":
                self.ids.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] != "style":
            self.said.append(data)


@pytest.mark.parametrize("name", NAMES)
def test_the_page_stands_alone(reports, name):
    report = reports[name]
    outline = Outline(report.page)
    assert not {"script", "img", "link", "iframe", "object"} & set(outline.tags)
    assert not any(attribute.startswith("on") for attribute in outline.attributes)
    assert len(set(outline.ids)) == len(outline.ids)
    for link in outline.links:
        if link.startswith("#"):
            assert link[1:] in outline.ids
        else:
            assert (report.directory / link).is_file()
    assert set(re.findall(r"url\(([^)]*)\)", report.page)) <= {f"#{each}" for each in outline.ids}
    assert "@import" not in report.page


@pytest.mark.parametrize("name", NAMES)
def test_every_plot_has_all_its_twins(reports, name):
    report = reports[name]
    plots = [path for path in report.paths if path.suffix == ".svg"]
    result = report.result
    assert len(plots) == 3 + len(result.sweeps) + len(result.features)
    for path in plots:
        assert path.with_suffix(".png").read_bytes().startswith(b"\x89PNG\r\n\x1a\n")
        figure = re.search(rf'<figure id="plot-{path.stem}".*?</figure>', report.page, re.DOTALL)
        assert figure is not None
        rows = report.rows(path.stem)
        assert figure[0].count("<svg ") == 1
        assert figure[0].count("<tr>") == (len(rows) + 1 if rows else 0)


@pytest.mark.parametrize("name", NAMES)
def test_each_drawing_is_sound_and_fetches_nothing(reports, name):
    for path in reports[name].paths:
        if path.suffix != ".svg":
            continue
        root = ElementTree.fromstring(path.read_bytes())
        assert root.tag == f"{SVG}svg"
        assert all(each.get(XLINK, "#").startswith("#") for each in root.iter())
        assert any(each.tag == f"{SVG}text" for each in root.iter())
        assert not any(each.tag == f"{SVG}image" for each in root.iter())


def test_the_paths_are_the_files_with_the_page_first(reports):
    for report in reports.values():
        assert report.paths[0].name == "index.html"
        assert sorted(report.paths) == sorted(report.directory.iterdir())


def test_the_json_is_the_result(reports):
    for report in reports.values():
        octets = (report.directory / "result.json").read_bytes()
        assert msgspec.json.decode(octets, type=BacktestResult) == report.result


def test_the_same_result_gives_the_same_bytes(reports, tmp_path):
    report = reports["odd"]
    again = write_report(report.result, tmp_path, zone=ZoneInfo("Asia/Shanghai"))
    assert [path.name for path in again] == [path.name for path in report.paths]
    for one, other in zip(again, report.paths, strict=True):
        assert one.read_bytes() == other.read_bytes(), one.name


def test_other_files_stay_and_its_own_are_written_over(empty, tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "index.html").write_text("old")
    write_report(empty, tmp_path)
    assert (tmp_path / "notes.txt").read_text() == "mine"
    assert "Times in UTC" in (tmp_path / "index.html").read_text()


def test_where_it_cannot_be_written_is_said(empty, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportUnwritable, match="choose another directory"):
        write_report(empty, tmp_path / "file")


def test_figures_in_the_files_are_those_of_the_result(reports):
    report = reports["big"]
    result = report.result
    days = report.rows("days")
    assert [int(row["tested_declines"]) for row in days] == [
        day.tested_declines for day in result.days
    ]
    for row, rule in zip(report.rows("rules"), result.rules, strict=True):
        assert row["rule"] == rule.rule_id
        assert int(row["fired"]) == rule.fired
        assert int(row["declined_minor"]) == rule.declined_minor
        assert row["precision_ppm"] == str(rule.labels.precision_ppm or "")
    hours = {(row["weekday"], row["declines"]): row for row in report.rows("hours")}
    assert int(hours["Sun", "tested"]["hour_13"]) == result.hours_tested[6][13]
    assert int(hours["Mon", "answered"]["hour_05"]) == result.hours_answered[0][5]
    assert {(row["one"], row["other"]): int(row["both"]) for row in report.rows("overlaps")} == {
        (each.one, each.other): each.both for each in result.overlaps
    }
    sweep = result.sweeps[0]
    swept = report.rows("sweep-tap_burst")
    assert [int(row["limit"]) for row in swept] == list(sweep.limits)
    assert [int(row["declines"]) for row in swept] == list(sweep.declines)
    assert {row["is"]: row["limit"] for row in swept if row["is"]} == {"tested": "6", "live": "8"}
    feature = result.features[1]
    bins = [row for row in report.rows("feature-loaded_24h") if row["row"] == "bin"]
    assert [int(row["value"]) for row in bins] == list(feature.edges[:-1])
    assert [int(row["requests"]) for row in bins] == list(feature.counts)
    assert [int(row["gained_minor"]) for row in report.rows("affected")] == [
        each.gained_minor for each in result.affected
    ]
    assert len(report.rows("examples")) == sum(len(rule.examples) for rule in result.rules)
    assert report.rows("gained")[0]["at"] == "2026-10-26T15:33:20.123456+08:00"


def test_the_verdict_comes_before_everything_else(reports):
    words = " ".join(" ".join(Outline(reports["big"].page).said).split())
    order = [
        "Six taps, and store loads of the new district",
        "closed loop. Times in Asia/Shanghai",
        "8,061",
        "16,122.00 in money",
        "0.0236 %",
        "⚠ 99.98 %",
        "36,204,518",
        "Declines with 65 the 7th tap",
        "North Gate 北门",
        "2026-10-26 15:33:20",
        "terminal_declines_10m",
    ]
    places = [words.index(each) for each in order]
    assert places == sorted(places)


def test_precision_stands_only_beside_labels(reports, big):
    heads = re.findall(r"<th scope=\"col\"[^>]*>([^<]*)", reports["big"].page)
    assert {"Precision", "Recall", "Labelled of fired"} <= set(heads)
    unlabelled = msgspec.structs.replace(big, labelled=0)
    text = page(unlabelled, result_tables(unlabelled), [], UTC)
    assert "Precision" not in re.findall(r"<th scope=\"col\"[^>]*>([^<]*)", text)
    assert "precision and recall are not known" in text


def test_what_is_partial_or_empty_says_so(reports):
    assert "Stopped before its end" in reports["odd"].page
    assert "Stopped before its end" not in reports["big"].page
    empty = reports["empty"].page
    assert "nothing to read" in empty
    for words in ("No day was read.", "Nobody was declined in any hour.", "No two rules fired"):
        assert words in empty


anything = st.text(max_size=60)


@given(text=anything)
@settings(max_examples=25, deadline=None)
def test_no_text_becomes_markup(odd, text):
    plain = _renamed(odd, "plain")
    given_ = _renamed(odd, text)
    outline = Outline(page(given_, result_tables(given_), [], UTC))
    assert outline.tags == Outline(page(plain, result_tables(plain), [], UTC)).tags
    said = "".join(outline.said)
    assert printable(text).replace("\r", "\n") in said


def _renamed(result: BacktestResult, text: str) -> BacktestResult:
    rule = msgspec.structs.replace(result.rules[0], rule_id=text, sentence=text)
    return msgspec.structs.replace(
        result, title=f"T{text}", rules=(rule,), affected=(Affected("stop", text, 1, 1),)
    )


@given(text=anything)
@settings(max_examples=10, deadline=None)
def test_no_text_becomes_drawing(text):
    figure = paper(f"The {text}")
    figure.text(0.1, 0.5, f"<{printable(text)}>")
    rendered = render(figure, "any")
    said = ["".join(each.itertext()) for each in ElementTree.fromstring(rendered.svg).iter()]
    assert f"<{printable(text)}>" in said
    on_page = drawn("a", Table("a", "a", (), ()), rendered.inline, UTC)
    outline = Outline(str(on_page.svg))
    assert set(outline.tags) <= {"svg", "defs", "g", "path", "text", "tspan"}
    assert f"<{printable(text)}>" in "".join(outline.said)


def test_nothing_of_the_templates_is_left(reports):
    for report in reports.values():
        assert "{{" not in report.page
        assert "{%" not in report.page
