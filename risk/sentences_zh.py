"""Chinese: how the parts of a rule are said."""

from __future__ import annotations

import re
from typing import assert_never

from protocols.message import Outcome, response_code
from risk.conditions import Relation
from risk.features import (
    Aggregate,
    Basis,
    CalendarDay,
    CalendarMonth,
    CalendarWeek,
    Feature,
    Key,
    Lifetime,
    Trailing,
    Window,
)
from risk.rules import (
    SCOPE_FACTS,
    AddToList,
    Allow,
    Challenge,
    Decline,
    ForceOnline,
    Mark,
    Review,
    Rule,
    Scope,
    Stage,
    Tag,
    Then,
)
from risk.vocabulary import Unit

FACTS = {
    "amount": "金额",
    "balance": "余额",
    "kind": "交易类型",
    "outcome": "结果",
    "segment": "行业",
    "mcc": "商户类别",
    "merchant": "商户",
    "terminal": "终端",
    "acquirer": "收单机构",
    "venue": "场所",
    "mode": "交通方式",
    "line": "线路",
    "stop": "站点",
    "vehicle": "车辆",
    "event_age": "刷卡时间距今",
    "channel": "渠道",
    "clock_skew": "时钟偏差",
    "pin": "密码",
    "entry_mode": "输入方式",
    "medium": "卡介质",
    "card_id": "卡",
    "card_status": "卡状态",
    "card_age": "发卡天数",
    "holder_class": "持卡人类别",
    "tier": "账户等级",
    "product": "产品",
    "local_time": "当地时间",
    "weekday": "星期",
}
VALUES = {
    "kind": {
        "purchase": "消费",
        "void": "消费撤销",
        "refund": "退货",
        "preauthorization": "预授权",
        "preauthorization_cancel": "预授权撤销",
        "completion": "预授权完成",
        "inquiry": "查询",
        "load_pending": "待确认充值",
        "load": "充值",
        "offline_sale": "离线消费",
        "adjustment": "调整",
        "credit_adjustment": "贷记调整",
        "reversal": "冲正",
        "hold_expiry": "冻结到期",
        "fare": "车费",
        "tap_on": "进站",
        "tap_off": "出站",
        "incomplete_fare": "不完整行程",
        "fare_credit": "车费退还",
        "inspect": "查验",
        "offline_fare": "离线车费",
        "bill_inquiry": "账单查询",
        "bill": "账单代扣",
        "repeat": "重发",
        "tombstone": "占位",
    },
    "segment": {"transit": "交通", "utility": "公用事业", "retail": "零售"},
    "tier": {"anonymous": "不记名", "named": "记名", "verified": "实名"},
    "venue": {
        "bus": "公交",
        "metro": "地铁",
        "taxi": "出租",
        "ferry": "轮渡",
        "water": "水费",
        "electricity": "电费",
        "fuel": "加油",
        "community": "智能化小区",
        "parking": "停车场",
        "tourist_centre": "旅游集散中心",
        "convenience": "便利店",
        "supermarket": "连锁超市",
        "stadium": "体育场馆",
        "park": "公园",
        "cinema": "电影院",
    },
    "channel": {"online": "联机", "advice": "通知"},
    "pin": {"verified": "已验证", "none": "未输入"},
}
_KEYS = {
    Key.CARD: "一张卡",
    Key.ACCOUNT: "一个账户",
    Key.CARD_MERCHANT: "一张卡在一家商户",
    Key.TERMINAL: "一台终端",
    Key.MERCHANT: "一家商户",
    Key.ACQUIRER: "一家收单机构",
}
_EVENTS = {Basis.ATTEMPTS: "交易", Basis.APPROVED: "成功交易", Basis.DECLINED: "被拒交易"}
_RELATIONS = {
    Relation.EQ: "为",
    Relation.NE: "不为",
    Relation.LT: "小于",
    Relation.LE: "不超过",
    Relation.GT: "大于",
    Relation.GE: "不少于",
}
_HAN = "[\u4e00-\u9fff]"
_LATIN = "[A-Za-z0-9]"
_WEEKDAYS = "一二三四五六日"


class Chinese:
    def fact(self, name: str) -> str:
        return FACTS[name]

    def feature(self, feature: Feature) -> str:
        where = f"{_KEYS[feature.key]}{_window(feature.window)}"
        same = f"同一{FACTS[feature.same]}" if feature.same else ""
        events = same + (feature.noun_zh or _EVENTS[feature.basis])
        match feature.aggregate:
            case Aggregate.COUNT:
                return f"{where}{events}次数"
            case Aggregate.SUM:
                return f"{where}{events}总额"
            case Aggregate.DISTINCT:
                return f"{where}{events}的不同{FACTS[feature.field or '']}数"
            case Aggregate.LAST:
                return f"{where}上次{events}的{FACTS[feature.field or '']}"
            case Aggregate.SECONDS_SINCE_LAST:
                return f"{where}距上次{events}的时间"
            case Aggregate.DISTANCE_M:
                return f"{where}距上次{events}的距离"
            case Aggregate.SPEED_KMH:
                return f"{where}自上次{events}起的速度"
            case _:
                assert_never(feature.aggregate)

    def ordinal(self, number: int, feature: Feature) -> str:
        same = f"同一{FACTS[feature.same]}" if feature.same else ""
        events = same + (feature.noun_zh or _EVENTS[feature.basis])
        return f"{_KEYS[feature.key]}{_window(feature.window)}第 {number} 次{events}"

    def is_ordinal(self, ordinal: str) -> str:
        return f"为{ordinal}"

    def compared(self, left: str, op: Relation, right: str) -> str:
        return f"{left}{_RELATIONS[op]} {right}"

    def among(self, left: str, values: list[str], *, inside: bool) -> str:
        return f"{left}{'' if inside else '不'}属于{'、'.join(values)}"

    def between(self, left: str, low: str, high: str, *, inside: bool) -> str:
        return f"{left}{'' if inside else '不'}在 {low} 至 {high} 之间"

    def starts(self, left: str, prefix: str, *, holds: bool) -> str:
        return f"{left}{'' if holds else '不'}以 {prefix} 开头"

    def listed(self, left: str, name: str, *, holds: bool) -> str:
        return f"{left}{'' if holds else '不'}在名单 {name} 中"

    def missing(self, left: str, *, holds: bool) -> str:
        return f"{left}{'缺失' if holds else '已知'}"

    def sum(self, terms: list[str]) -> str:
        return "加".join(terms)

    def percent(self, whole: str, percent: int) -> str:
        return f"{whole}的 {percent}%"

    def all(self, parts: list[str], *, nested: bool) -> str:
        return _joined(parts, "且", nested=nested)

    def any(self, parts: list[str], *, nested: bool) -> str:
        return _joined(parts, "或", nested=nested)

    def value(self, name: str, value: str) -> str:
        return VALUES.get(name, {}).get(value, value)

    def duration(self, seconds: int) -> str:
        return f"{seconds} 秒"

    def unit(self, unit: Unit, number: int) -> str:
        match unit:
            case Unit.METRES:
                return f"{number:,} 米"
            case Unit.SPEED:
                return f"{number:,} 公里/小时"
            case Unit.DAYS:
                return f"{number:,} 天"
            case Unit.WEEKDAY:
                return _WEEKDAYS[(number - 1) % 7]
            case Unit.IDENTITY:
                return str(number)
            case _:
                return f"{number:,}"

    def rule(self, rule: Rule, condition: str, ordinal: str, scope: list[str]) -> str:
        when = "，且".join(part for part in (ordinal, condition) if part)
        when += "时" if condition else ""
        done = "，并".join(self.effect(each) for each in (rule.then, *rule.also))
        line = f"{when}，{done}"
        if scope:
            line += f"；适用：{'，'.join(scope)}"
        if rule.canary_percent is not None:
            line += f"；仅 {rule.canary_percent}% 的卡"
        if rule.expires_at is not None:
            line += f"；至 {rule.expires_at:%Y-%m-%d} 止"
        return _spaced(f"仅观察：{line}" if rule.stage is Stage.WATCH else line)

    def scope(self, scope: Scope, *, kinds_said: bool) -> list[str]:
        parts: list[str] = []
        for field, fact in SCOPE_FACTS.items():
            chosen = getattr(scope, field)
            if chosen and not (field == "kinds" and kinds_said):
                said = "、".join(self.value(fact, str(each)) for each in chosen)
                parts.append(f"{FACTS[fact]}为{said}")
        parts += [f"名单 {name} 除外" for name in scope.except_lists]
        return parts

    def effect(self, then: Then | Mark) -> str:
        match then:
            case Decline(outcome=outcome):
                return f"拒绝（{response_code(outcome)}）"
            case Allow():
                return "放行（免于黄级规则）"
            case Challenge():
                return f"要求输入密码（{response_code(Outcome.PIN_REQUIRED)}）"
            case Review(queue=queue):
                return f"送入队列 {queue} 复核"
            case Tag(tag=tag):
                return f"标记为 {tag}"
            case AddToList(list=name, ttl_s=ttl_s):
                return f"列入名单 {name} {_span(ttl_s)}"
            case ForceOnline():
                return "下次强制联机"
            case _:
                assert_never(then)


def _spaced(line: str) -> str:
    """A space between Chinese characters and figures or Latin letters, none between Chinese."""
    line = re.sub(rf"(?<={_HAN}) (?={_HAN})", "", line)
    line = re.sub(rf"(?<={_HAN})(?={_LATIN})", " ", line)
    return re.sub(rf"(?<={_LATIN}|%)(?={_HAN})", " ", line)


def _window(window: Window) -> str:
    match window:
        case Trailing(seconds=seconds):
            return f" {_span(seconds)}内"
        case CalendarDay():
            return "当日"
        case CalendarWeek():
            return "当周"
        case CalendarMonth():
            return "当月"
        case Lifetime():
            return "累计"
        case _:
            assert_never(window)


def _span(seconds: int) -> str:
    for size, unit in ((3600, "小时"), (60, "分钟")):
        if seconds % size == 0:
            return f"{seconds // size} {unit}"
    return f"{seconds} 秒"


def _joined(parts: list[str], word: str, *, nested: bool) -> str:
    line = word.join(parts)
    return f"（{line}）" if nested and len(parts) > 1 else line
