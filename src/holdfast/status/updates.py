"""Texts that operators send at three in the morning, in both languages, each for one stage of an incident."""

from __future__ import annotations

from typing import Final

from holdfast.status.model import Stage
from holdfast.status.words import Words

TEMPLATES: Final[dict[str, tuple[Stage, Words]]] = {
    "looking": (
        "investigating",
        Words(
            "We see that it fails and are looking for the cause. Payments that were begun are safe: "
            "each is completed or returned.",
            "我们已发现异常，正在查找原因。已发起的支付是安全的：每一笔都会完成或退回。",
        ),
    ),
    "provider": (
        "identified",
        Words(
            "A provider of ours does not answer. Payments go another way where there is one.",
            "我们的一家服务商无应答。可行时支付会改走其他通道。",
        ),
    ),
    "ours": (
        "identified",
        Words("The cause is with us and known. We are mending it.", "原因在我方，已查明，正在修复。"),
    ),
    "security": (
        "identified",
        Words(
            "We have switched something off to protect you. Your money is where it was.",
            "为保护您的安全，我们已暂停部分功能。您的资金没有变动。",
        ),
    ),
    "waiting": (
        "identified",
        Words(
            "Payments that wait will be completed by themselves. Please do not pay twice.",
            "等待中的支付会自动完成，请勿重复支付。",
        ),
    ),
    "mended": (
        "monitoring",
        Words("It is mended. We watch whether it stays so.", "已修复，正在观察是否稳定。"),
    ),
    "over": (
        "resolved",
        Words(
            "It is over. What waited has been completed or returned.",
            "已恢复。此前等待的支付均已完成或退回。",
        ),
    ),
}
"""By name: the stage, and what is said."""
