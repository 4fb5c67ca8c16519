"""What the service calls each state, in plain words, in both languages. Complete by test."""

from __future__ import annotations

from typing import Final

from holdfast.status.model import Cause, Stage, Standing
from holdfast.status.words import Words

STANDING_WORDS: Final[dict[Standing, Words]] = {
    "operational": Words("Works", "正常"),
    "under_maintenance": Words("Maintenance", "维护中"),
    "degraded_performance": Words("Slower, or fails now and then", "变慢或偶有失败"),
    "partial_outage": Words("Often fails", "经常失败"),
    "major_outage": Words("Does not work", "无法使用"),
}
HEADLINES: Final[dict[Standing, Words]] = {
    "operational": Words("Everything works", "一切正常"),
    "under_maintenance": Words("Maintenance is under way", "正在维护"),
    "degraded_performance": Words("Some things are slower or fail now and then", "部分功能变慢或偶有失败"),
    "partial_outage": Words("Some things often fail", "部分功能经常失败"),
    "major_outage": Words("Something important does not work", "重要功能无法使用"),
}
STAGE_WORDS: Final[dict[Stage, Words]] = {
    "investigating": Words("We are looking into it", "正在调查"),
    "identified": Words("The cause is known", "已找到原因"),
    "monitoring": Words("Mended; we are watching", "已修复，观察中"),
    "resolved": Words("Over", "已恢复"),
    "postmortem": Words("Looking back", "事后总结"),
}
CAUSE_WORDS: Final[dict[Cause, Words]] = {
    "technical": Words("technical fault", "技术故障"),
    "security": Words("security", "安全原因"),
    "maintenance": Words("maintenance", "维护"),
    "regulatory": Words("new rules", "监管要求"),
    "unknown": Words("cause not known yet", "原因未明"),
}
