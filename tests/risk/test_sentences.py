"""Golden: the line of every rule that ships, in both languages, and each part of speech."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from protocols.card_number import mask_digit_runs
from risk.check import first_ruleset
from risk.conditions import (
    All,
    AnyOf,
    Compare,
    Constant,
    FactOperand,
    InList,
    IsMissing,
    Membership,
    Not,
    Relation,
    StartsWith,
)
from risk.moments import Settings
from risk.rules import Rule, Scope, Stage, Tag
from risk.ruleset import Ruleset
from risk.sentences import (
    SENTENCE_CHARACTERS_MAX,
    Language,
    rule_sentence,
    ruleset_sentences,
)
from risk.sentences_zh import FACTS, VALUES
from risk.vocabulary import CURRENT_FACTS, PAST_FACTS

GOLDEN = {
    "hotlist": (
        "declines with 62 if the medium is on list hotlist",
        "卡介质在名单 hotlist 中时，拒绝（62）",
    ),
    "tier_known": (
        "declines with 05 if the tier is missing or the tier is none of anonymous, named, verified",
        "账户等级缺失或账户等级不属于不记名、记名、实名时，拒绝（05）",
    ),
    "anonymous_balance": (
        "declines with 61 if the balance plus the amount is more than 1,000.00, for kind load or "
        "load_pending, tier anonymous",
        "余额加金额大于 1,000.00 "
        "时，拒绝（61）；适用：交易类型为充值、待确认充值，账户等级为不记名",
    ),
    "history_full": (
        "declines the 501st request in 24 h on one account with 65",
        "一个账户 24 小时内第 501 次请求，拒绝（65）",
    ),
    "group_pass": (
        "allows over amber if the card is on list group_passes and the amount is at most 20.00 "
        "and (the segment is transit or the kind is one of fare, tap_on), for kind purchase or "
        "fare or tap_on, until 2030-01-01",
        "卡在名单 group_passes 中且金额不超过 20.00 "
        "且（行业为交通或交易类型属于车费、进站）时，放行（免于黄级规则）；适用：交易类型为消费、"
        "车费、进站；至 2030-01-01 止",
    ),
    "event_day": (
        "allows over amber if the stop is known and the stop is on list event_stops and the "
        "local time is from 21:00 to 24:00, for kind fare or tap_on, until 2030-01-01",
        "站点已知且站点在名单 event_stops 中且当地时间在 21:00 至 "
        "24:00 之间时，放行（免于黄级规则）；适用：交易类型为车费、进站；至 "
        "2030-01-01 止",
    ),
    "card_burst": (
        "declines the 11th payment in 1 min on one card with 65",
        "一张卡 1 分钟内第 11 次付款，拒绝（65）",
    ),
    "card_roaming": (
        "declines with 34 if the number of different terminals of payments in 10 min on one card "
        "is at least 5, for kind purchase or preauthorization",
        "一张卡 10 分钟内付款的不同终端数不少于 5 时，拒绝（34）；适用：交易类型为消费、预授权",
    ),
    "tap_burst": (
        "declines the 7th tap in 5 min on one card with 65",
        "一张卡 5 分钟内第 7 次刷卡，拒绝（65）",
    ),
    "passback": (
        "declines with 65 if the event age is at most 60 s and the number of taps at the same "
        "stop in 20 s on one card is at least 1, for kind fare or tap_on",
        "刷卡时间距今不超过 60 秒且一张卡 20 秒内同一站点刷卡次数不少于 1 "
        "时，拒绝（65）；适用：交易类型为车费、进站",
    ),
    "two_vehicles": (
        "declines with 34 if the event age is at most 60 s and the vehicle is known and the "
        "number of rides in another vehicle in 2 min on one card is at least 1, for kind fare, "
        "segment transit",
        "刷卡时间距今不超过 60 秒且车辆已知且一张卡 2 分钟内在另一车辆刷卡次数不少于 1 "
        "时，拒绝（34）；适用：交易类型为车费，行业为交通",
    ),
    "vehicle_twice": (
        "declines with 65 if the event age is at most 60 s and the time since the last of taps "
        "in the same vehicle in 10 s on one card is known and the time since the last of taps in "
        "the same vehicle in 10 s on one card is less than 3 s, for kind fare, segment transit, "
        "except list group_passes",
        "刷卡时间距今不超过 60 秒且一张卡 10 秒内距上次同一车辆刷卡的时间已知且一张卡 "
        "10 秒内距上次同一车辆刷卡的时间小于 3 "
        "秒时，拒绝（65）；适用：交易类型为车费，行业为交通，名单 group_passes "
        "除外",
    ),
    "cloned_card": (
        "declines with 34 and puts it on list suspected_clone for 48 h if the event age is at "
        "most 60 s and the number of taps elsewhere in 1 h on one card is at least 1 and the way "
        "from the last of taps in 1 h on one card is at least 1,000 m and the speed from the "
        "last of taps in 1 h on one card is more than 120 km/h, for kind fare or tap_on",
        "刷卡时间距今不超过 60 秒且一张卡 1 小时内在别处刷卡次数不少于 1 且一张卡 1 "
        "小时内距上次刷卡的距离不少于 1,000 米且一张卡 1 小时内自上次刷卡起的速度大于 "
        "120 公里/小时时，拒绝（34），并列入名单 suspected_clone 48 "
        "小时；适用：交易类型为车费、进站",
    ),
    "clone_listed": (
        "declines with 34 if the medium is on list suspected_clone",
        "卡介质在名单 suspected_clone 中时，拒绝（34）",
    ),
    "terminal_testing": (
        "declines with 05 if the number of wrong PINs or cards in 10 min at one terminal is more "
        "than 15, for kind purchase or preauthorization",
        "一台终端 10 分钟内密码或卡号错误次数大于 15 时，拒绝（05）；适用：交易类型为消费、预授权",
    ),
    "bill_scan": (
        "declines the 21st inquiry in 24 h on one card with 65",
        "一张卡 24 小时内第 21 次账单查询，拒绝（65）",
    ),
    "load_ladder": (
        "sends it to queue loads for review if the number of loads in 24 h on one card is at "
        "least 3 and the number of different terminals of loads in 24 h on one card is at least "
        "3, for kind load or load_pending",
        "一张卡 24 小时内充值次数不少于 3 且一张卡 24 小时内充值的不同终端数不少于 "
        "3 时，送入队列 loads 复核；适用：交易类型为充值、待确认充值",
    ),
    "reload_then_spend": (
        "sends it to queue loads for review if the sum loaded in 10 min on one account is more "
        "than 500.00 and the sum spent at convenience stores in 10 min on one account plus the "
        "amount is more than 90 % of the sum loaded in 10 min on one account, for kind purchase "
        "or preauthorization, merchant category 5499",
        "一个账户 10 分钟内充值总额大于 500.00 且一个账户 10 "
        "分钟内便利店消费总额加金额大于一个账户 10 分钟内充值总额的 90% 时，送入队列 "
        "loads 复核；适用：交易类型为消费、预授权，商户类别为 5499",
    ),
    "taxi_pin": (
        "asks for the PIN (55) if the amount is more than 200.00, for kind purchase or "
        "preauthorization, venue taxi",
        "金额大于 200.00 时，要求输入密码（55）；适用：交易类型为消费、预授权，场所为出租",
    ),
    "taxi_day": (
        "declines the 11th taxi ride in a day on one account with 65, for venue taxi",
        "一个账户当日第 11 次乘出租车，拒绝（65）；适用：场所为出租",
    ),
    "fuel_day": (
        "declines the 4th fill of fuel in a day on one account with 65, for venue fuel",
        "一个账户当日第 4 次加油，拒绝（65）；适用：场所为加油",
    ),
    "store_loads_day": (
        "declines the 6th load at a convenience store in a day on one account with 65, for kind "
        "load or load_pending, venue convenience",
        "一个账户当日第 6 次便利店充值，拒绝（65）；适用：交易类型为充值、待确认充值，场所为便利店",
    ),
    "anonymous_payment": (
        "declines with 61 if the amount is more than 500.00, for kind purchase or "
        "preauthorization or fare or tap_on or bill, tier anonymous",
        "金额大于 500.00 "
        "时，拒绝（61）；适用：交易类型为消费、预授权、车费、进站、账单代扣，账户等级为不记名",
    ),
    "anonymous_day": (
        "declines with 61 if the sum spent in a day on one account plus the amount is more than "
        "500.00, for kind purchase or preauthorization or fare or tap_on or bill, tier anonymous",
        "一个账户当日消费总额加金额大于 500.00 "
        "时，拒绝（61）；适用：交易类型为消费、预授权、车费、进站、账单代扣，账户等级为不记名",
    ),
    "named_payment": (
        "declines with 61 if the amount is more than 1,000.00, for kind purchase or "
        "preauthorization or fare or tap_on or bill, tier named",
        "金额大于 1,000.00 "
        "时，拒绝（61）；适用：交易类型为消费、预授权、车费、进站、账单代扣，账户等级为记名",
    ),
    "named_day": (
        "declines with 61 if the sum spent in a day on one account plus the amount is more than "
        "5,000.00, for kind purchase or preauthorization or fare or tap_on or bill, tier named",
        "一个账户当日消费总额加金额大于 5,000.00 "
        "时，拒绝（61）；适用：交易类型为消费、预授权、车费、进站、账单代扣，账户等级为记名",
    ),
    "verified_payment": (
        "declines with 61 if the amount is more than 5,000.00, for kind purchase or "
        "preauthorization or fare or tap_on or bill, tier verified",
        "金额大于 5,000.00 "
        "时，拒绝（61）；适用：交易类型为消费、预授权、车费、进站、账单代扣，账户等级为实名",
    ),
    "verified_day": (
        "declines with 61 if the sum spent in a day on one account plus the amount is more than "
        "20,000.00, for kind purchase or preauthorization or fare or tap_on or bill, tier "
        "verified",
        "一个账户当日消费总额加金额大于 20,000.00 "
        "时，拒绝（61）；适用：交易类型为消费、预授权、车费、进站、账单代扣，账户等级为实名",
    ),
    "verified_month": (
        "declines with 61 if the sum spent in a month on one account plus the amount is more "
        "than 100,000.00, for kind purchase or preauthorization or fare or tap_on or bill, tier "
        "verified",
        "一个账户当月消费总额加金额大于 100,000.00 "
        "时，拒绝（61）；适用：交易类型为消费、预授权、车费、进站、账单代扣，账户等级为实名",
    ),
}


def test_the_lines_of_the_shipped_rules() -> None:
    ruleset = first_ruleset()
    english = ruleset_sentences(ruleset)
    chinese = ruleset_sentences(ruleset, Language.CHINESE)
    assert {name: (english[name], chinese[name]) for name in english} == GOLDEN


FEATURES = """
[[features]]
id = "counter"
key = "{key}"
aggregate = "{aggregate}"
basis = "approved"
window = "{window}"
{more}
"""
RULE = """
[[lists]]
name = "stops"
field = "stop"

[[rules]]
id = "probe"
version = 1
name = "probe"
stage = "{stage}"
when = {when}
then = {then}
{more}
"""


def line(
    load: Callable[[str], Ruleset],
    when: str,
    *,
    key: str = "card",
    aggregate: str = "count",
    window: str = "5m",
    feature: str = "",
    then: str = '{ decline = "count_limit", reason = "too many" }',
    stage: str = "amber",
    more: str = "",
) -> tuple[str, str]:
    body = ""
    if "counter" in when:
        body = FEATURES.format(key=key, aggregate=aggregate, window=window, more=feature)
    body += RULE.format(when=when, then=then, stage=stage, more=more)
    ruleset = load(body)
    (rule,) = ruleset.rules
    return rule_sentence(rule, ruleset), rule_sentence(rule, ruleset, Language.CHINESE)


OVER = '{ feature = "counter", op = "gt", value = 2 }'
NEXT = '{ feature = "counter", plus = 1, op = "gt", value = 20 }'
AMOUNT = '{ fact = "amount", op = "gt", value = 20000 }'


@pytest.mark.parametrize(
    ("when", "with_", "english", "chinese"),
    [
        (NEXT, {}, "declines the 21st approval in 5 min on one card with 65",
         "一张卡 5 分钟内第 21 次成功交易，拒绝（65）"),
        (f"{{ all = [{NEXT}, {AMOUNT}] }}", {"feature": 'noun = "taps"\nnoun_zh = "刷卡"'},
         "declines the 21st tap in 5 min on one card with 65 if the amount is more than 200.00",
         "一张卡 5 分钟内第 21 次刷卡，且金额大于 200.00 时，拒绝（65）"),
        (f"{{ any = [{NEXT}, {AMOUNT}] }}", {"window": "90s", "key": "account"},
         "declines with 65 if it is the 21st approval in 90 s on one account or the amount is more "
         "than 200.00", "为一个账户 90 秒内第 21 次成功交易或金额大于 200.00 时，拒绝（65）"),
        (OVER, {"aggregate": "distinct", "feature": 'field = "stop"', "key": "card_merchant"},
         "declines with 65 if the number of different stops of approvals in 5 min on one card at "
         "one merchant is more than 2",
         "一张卡在一家商户 5 分钟内成功交易的不同站点数大于 2 时，拒绝（65）"),
        ('{ feature = "counter", op = "eq", value = "M1/S01" }',
         {"aggregate": "last", "feature": 'field = "stop"'},
         "declines with 65 if the stop of the last of approvals in 5 min on one card is M1/S01",
         "一张卡 5 分钟内上次成功交易的站点为 M1/S01 时，拒绝（65）"),
        ('{ feature = "counter", op = "ge", value = 250 }',
         {"aggregate": "sum", "key": "account", "window": "calendar_week"},
         "declines with 65 if the sum approved in a week on one account is at least 2.50",
         "一个账户当周成功交易总额不少于 2.50 时，拒绝（65）"),
        (OVER, {"key": "account", "window": "lifetime"},
         "declines with 65 if the number of approvals ever on one account is more than 2",
         "一个账户累计成功交易次数大于 2 时，拒绝（65）"),
        (OVER, {"key": "merchant"},
         "declines with 65 if the number of approvals in 5 min at one merchant is more than 2",
         "一家商户 5 分钟内成功交易次数大于 2 时，拒绝（65）"),
        (AMOUNT, {"then": '{ challenge = "pin", reason = "x" }', "more": "canary_percent = 10"},
         "asks for the PIN (55) if the amount is more than 200.00, on 10 % of the cards",
         "金额大于 200.00 时，要求输入密码（55）；仅 10% 的卡"),
        (AMOUNT, {"stage": "watch"},
         "only watches, else declines with 65 if the amount is more than 200.00",
         "仅观察：金额大于 200.00 时，拒绝（65）"),
        (AMOUNT, {"then": '{ add_to_list = "stops", ttl = "90m" }',
                  "more": 'also = [{ tag = "odd" }, { force_online = true }]'},
         "puts it on list stops for 90 min and tags it odd and sends the card online next time if "
         "the amount is more than 200.00",
         "金额大于 200.00 时，列入名单 stops 90 分钟，并标记为 odd，并下次强制联机"),
        ('{ not = { any = [{ fact = "stop", op = "in_list", list = "stops" }, '
         '{ fact = "weekday", op = "in", value = [6, 7] }, '
         '{ fact = "mcc", op = "starts_with", value = "54" }] } }',
         {"more": 'scope = { venues = ["bus"], except = ["stops"] }'},
         "declines with 65 if the stop is not on list stops and the weekday is none of Saturday, "
         "Sunday and the merchant category does not start with 54, for venue bus, except list "
         "stops",
         "站点不在名单 stops 中且星期不属于六、日且商户类别不以 54 开头时，拒绝（65）；"
         "适用：场所为公交，名单 stops 除外"),
    ],
)  # fmt: skip
def test_how_the_parts_are_said(
    load: Callable[[str], Ruleset], when: str, with_: dict[str, Any], english: str, chinese: str
) -> None:
    assert line(load, when, **with_) == (english, chinese)


def test_every_word_has_a_chinese_one() -> None:
    assert set(FACTS) >= set(CURRENT_FACTS) | set(PAST_FACTS)
    for name, words in {**PAST_FACTS, **CURRENT_FACTS}.items():
        if name in VALUES and words.values:
            assert set(VALUES[name]) >= set(words.values)


LEAVES = st.one_of(
    st.builds(
        Compare,
        st.just(FactOperand("amount")),
        st.sampled_from(Relation),
        st.integers(0, 10**11).map(Constant),
    ),
    st.builds(
        Membership,
        st.just(FactOperand("merchant")),
        st.sampled_from(["in", "not_in"]),
        st.lists(st.sampled_from(["M1", "620000000000000"]), min_size=1, max_size=90).map(tuple),
    ),
    st.just(IsMissing(FactOperand("tier"))),
    st.just(StartsWith(FactOperand("mcc"), "5")),
    st.just(InList(FactOperand("stop"), "stops")),
)
TREES = st.recursive(
    LEAVES,
    lambda inner: st.one_of(
        st.lists(inner, min_size=1, max_size=4).map(lambda of: All(tuple(of))),
        st.lists(inner, min_size=1, max_size=4).map(lambda of: AnyOf(tuple(of))),
        inner.map(Not),
    ),
    max_leaves=12,
)


@settings(max_examples=150, deadline=None)
@given(TREES, st.sampled_from(Language))
def test_any_rule_has_one_bounded_line_without_a_long_number(when: Any, language: Language) -> None:
    rule = Rule(
        id="r",
        version=1,
        name="r",
        stage=Stage.AMBER,
        when=when,
        then=Tag("t"),
        scope=Scope(merchants=("620000000000000",)),
    )
    said = rule_sentence(rule, Ruleset(Settings("Asia/Shanghai", "00:00", "156")), language)
    assert 0 < len(said) <= SENTENCE_CHARACTERS_MAX
    assert "\n" not in said
    assert mask_digit_runs(said) == said
    assert said == rule_sentence(rule, Ruleset(Settings("UTC", "04:00", "156")), language)
