"""What the rules need and only people know, in plain words, for the operators' pages."""

from __future__ import annotations

from typing import Final

from holdfast.status.words import Words

FLAGS: Final[dict[str, Words]] = {
    "supports_critical_function": Words("It supports a critical or important function", "支持关键或重要职能"),
    "malicious_access": Words("Somebody got in without right, with bad intent", "发生恶意未授权访问"),
    "media": Words("It is in the media", "已有媒体报道"),
    "complaints": Words("Different clients complain again and again", "不同客户反复投诉"),
    "regulatory": Words("Duties cannot be met, or likely not", "无法或可能无法满足监管要求"),
    "lost_clients": Words("Clients that matter are lost, or likely", "流失或可能流失重要客户"),
    "relevant_affected": Words(
        "A client or counterpart named as relevant is touched", "涉及已认定的重要客户"
    ),
    "availability": Words("Data were not available, with harm", "数据不可用并造成损害"),
    "integrity": Words("Data are wrong, with harm", "数据完整性受损"),
    "confidentiality": Words("Data came into wrong hands", "数据泄露"),
    "financial_interest": Words("Clients lost money, or may", "客户资金受损或可能受损"),
    "severe_widespread": Words(
        "Severe and widespread impact on operations (SG)", "对运营造成严重且广泛的影响（新加坡）"
    ),
    "material_service": Words(
        "Material impact on service to customers (SG)", "对客户服务造成重大影响（新加坡）"
    ),
    "settlement_delayed": Words("Settlement is delayed (IN)", "结算延迟（印度）"),
    "fraud": Words("Fraud (IN)", "欺诈（印度）"),
    "publicity": Words("Major adverse publicity is possible (CN)", "可能引发重大负面舆情（中国）"),
    "duplicate_settlement": Words("Something was settled twice (CN)", "重复清算（中国）"),
    "peak": Words("It fell into the peak of business (CN)", "发生在业务高峰期（中国）"),
    "backlog": Words("Work was left over when it was restored", "恢复时仍有积压"),
}
"""Fields of the record that are answered with yes, no, or not yet known."""
FIGURES: Final[dict[str, Words]] = {
    "clients_affected": Words("Clients affected", "受影响客户数"),
    "counterparts_affected": Words("Financial counterparts affected", "受影响金融交易对手数"),
    "counterparts_of_service": Words("Financial counterparts of the service", "金融交易对手总数"),
    "records_leaked": Words("Records leaked", "泄露信息条数"),
    "customers_leaked": Words("Customers whose data leaked", "信息泄露涉及客户数"),
}
"""Fields that are whole numbers, measured or estimated."""
TEXTS: Final[dict[str, Words]] = {
    "root_cause": Words(
        "Root cause in few words (equal words are one cause)", "根本原因（简述，相同表述视为同一原因）"
    ),
}
"""Fields that are texts."""
TEXT_CHARS_MAX: Final = 200
