from __future__ import annotations

import msgspec

from risk.check import load_ruleset
from risk.lists import ListEntry, NamedList
from risk.ruleset import Ruleset
from risk.ruleset_diff import Change, FieldChange, Sort, diff
from risk.sentences import Language

TEXT = """
[settings]
time_zone = "Asia/Shanghai"
service_day_start = "00:00"
currency = "156"

[[features]]
id = "taps_5m"
key = "card"
aggregate = "count"
basis = "attempts"
window = "5m"
noun = "taps"
noun_zh = "刷卡"

[[rules]]
id = "tap_burst"
version = 7
name = "Too many taps"
stage = "amber"
scope = { kinds = ["purchase"] }
when = { feature = "taps_5m", plus = 1, op = "gt", value = 6 }
then = { decline = "count_limit", reason = "too many taps" }

[[lists]]
name = "shops"
field = "merchant"
entries = [{ value = "M1", reason = "fraud" }, { value = "M2", reason = "fraud" }]

[[rules]]
id = "bad_shops"
version = 1
name = "Shops that are closed"
stage = "amber"
when = { fact = "merchant", op = "in_list", list = "shops" }
then = { decline = "hotlisted", reason = "the shop is closed" }
"""
BEFORE = load_ruleset(TEXT)


def changed(old: str, new: str) -> Ruleset:
    assert TEXT.count(old) == 1
    return load_ruleset(TEXT.replace(old, new))


def test_a_ruleset_does_not_differ_from_itself() -> None:
    assert diff(BEFORE, load_ruleset("# a comment\n" + TEXT)) == ()
    turned = msgspec.structs.replace(BEFORE, rules=BEFORE.rules[::-1])
    assert diff(BEFORE, turned) == (), "rules of a stage are judged together"


def test_a_limit_that_changed_is_one_field_and_two_sentences() -> None:
    (change,) = diff(BEFORE, changed("value = 6", "value = 4"))
    assert (change.sort, change.what, change.id) == (Sort.CHANGED, "rule", "tap_burst")
    assert change.fields == (FieldChange("when.right.value", "6", "4"),)
    assert "7th tap" in change.before
    assert "5th tap" in change.after
    (chinese,) = diff(BEFORE, changed("value = 6", "value = 4"), Language.CHINESE)
    assert "第 5 次" in chinese.after


def test_what_is_added_and_removed() -> None:
    after = load_ruleset(TEXT.replace('"bad_shops"', '"closed_shops"'))
    removed, added = diff(BEFORE, after)
    assert (removed.sort, removed.id, removed.after) == (Sort.REMOVED, "bad_shops", "")
    assert (added.sort, added.id, added.before) == (Sort.ADDED, "closed_shops", "")
    assert removed.before == added.after


def test_every_part_of_a_ruleset_is_compared() -> None:
    assert diff(BEFORE, changed('"00:00"', '"04:00"')) == (
        Change(
            Sort.CHANGED,
            "setting",
            "settings",
            fields=(FieldChange("service_day_start", '"00:00"', '"04:00"'),),
        ),
    )
    (feature, rule) = diff(BEFORE, changed('window = "5m"', 'window = "10m"'))
    assert feature.fields == (FieldChange("window.seconds", "300", "600"),)
    assert (rule.id, rule.fields) == ("tap_burst", ()), "its own words are the same"
    assert ("5 min" in rule.before, "10 min" in rule.after) == (True, True)
    places = msgspec.structs.replace(BEFORE, places={"M1/S1": (31_000_000, 121_000_000)})
    (place,) = diff(BEFORE, places)
    assert (place.sort, place.what, place.id) == (Sort.ADDED, "place", "M1/S1")


def test_an_entry_of_a_list_is_one_field() -> None:
    (change,) = diff(BEFORE, changed('{ value = "M1", reason = "fraud" }, ', ""))
    assert (change.what, [field.path for field in change.fields]) == ("list", ["entries.0:M1"])
    assert change.fields[0].after == ""


def test_a_long_list_is_cut_and_no_long_number_is_shown() -> None:
    entries = tuple(ListEntry(f"{6222021234567890000 + n}", "fraud") for n in range(500))
    long = msgspec.structs.replace(BEFORE, lists=(NamedList("shops", "merchant", entries),))
    (change,) = diff(BEFORE, long)
    assert len(change.fields) == 21
    assert change.fields[-1].path == "and 482 more"
    assert "622202" not in repr(change)
