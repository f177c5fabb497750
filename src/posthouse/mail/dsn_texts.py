# SPDX-License-Identifier: Apache-2.0
"""What a delivery report says to a person, in English and Chinese: one cause, one sentence, one advice.

Every cause has both languages; an unknown language reads English. Texts have no technical words that the
reader could not look up: the exact words of the other server stand below them in the report.
"""

from __future__ import annotations

from enum import StrEnum
from typing import NamedTuple

from posthouse.outcome import Status


class Cause(StrEnum):
    """Why a recipient was not reached, as far as a reader can do something about it."""

    UNKNOWN_MAILBOX = "unknown mailbox"
    UNKNOWN_DOMAIN = "unknown domain"
    NO_MAIL_DOMAIN = "domain takes no mail"
    BAD_ADDRESS = "bad address"
    MOVED = "moved"
    SENDER_REFUSED = "sender refused"
    MAILBOX_DISABLED = "mailbox disabled"
    MAILBOX_FULL = "mailbox full"
    TOO_BIG = "too big"
    HOST_DOWN = "host down"
    HOST_FAULT = "host fault"
    DNS_FAULT = "name service"
    NO_ROUTE = "no route"
    LOOP = "loop"
    EXPIRED = "expired"
    PROTOCOL = "protocol"
    TOO_MANY_RECIPIENTS = "too many recipients"
    CONTENT = "content"
    NO_SMTPUTF8 = "no international addresses"
    NO_ENCRYPTION = "no encryption"
    NOT_AUTHENTICATED = "not authenticated"
    POLICY = "policy"
    LATER = "later"
    OTHER = "other"


# RFC 3463 §3 and the registry that RFC 5248 began: (subject, detail), then subject alone.
_BY_DETAIL = {
    (1, 1): Cause.UNKNOWN_MAILBOX,
    (1, 2): Cause.UNKNOWN_DOMAIN,
    (1, 3): Cause.BAD_ADDRESS,
    (1, 4): Cause.BAD_ADDRESS,
    (1, 6): Cause.MOVED,
    (1, 7): Cause.SENDER_REFUSED,
    (1, 8): Cause.SENDER_REFUSED,
    (1, 10): Cause.NO_MAIL_DOMAIN,
    (2, 1): Cause.MAILBOX_DISABLED,
    (2, 2): Cause.MAILBOX_FULL,
    (2, 3): Cause.TOO_BIG,
    (3, 4): Cause.TOO_BIG,
    (4, 1): Cause.HOST_DOWN,
    (4, 2): Cause.HOST_DOWN,
    (4, 3): Cause.DNS_FAULT,
    (4, 4): Cause.NO_ROUTE,
    (4, 6): Cause.LOOP,
    (4, 7): Cause.EXPIRED,
    (5, 3): Cause.TOO_MANY_RECIPIENTS,
    (6, 7): Cause.NO_SMTPUTF8,
    (6, 9): Cause.NO_SMTPUTF8,
    (7, 10): Cause.NO_ENCRYPTION,
    (7, 11): Cause.NO_ENCRYPTION,
    (7, 20): Cause.NOT_AUTHENTICATED,
    (7, 21): Cause.NOT_AUTHENTICATED,
    (7, 22): Cause.NOT_AUTHENTICATED,
    (7, 23): Cause.NOT_AUTHENTICATED,
    (7, 25): Cause.NOT_AUTHENTICATED,
    (7, 26): Cause.NOT_AUTHENTICATED,
    (7, 27): Cause.SENDER_REFUSED,
}
_BY_SUBJECT = {
    1: Cause.BAD_ADDRESS,
    2: Cause.MAILBOX_DISABLED,
    3: Cause.HOST_FAULT,
    4: Cause.HOST_DOWN,
    5: Cause.PROTOCOL,
    6: Cause.CONTENT,
    7: Cause.POLICY,
}


def cause_of(status: Status) -> Cause:
    """The cause that a status names. Transient refusals by policy are mostly greylisting: come back later."""
    if status.is_transient and status.subject == 7:
        return Cause.LATER
    found = _BY_DETAIL.get((status.subject, status.detail)) or _BY_SUBJECT.get(status.subject)
    if found is not None:
        return found
    return Cause.LATER if status.is_transient else Cause.OTHER


class Advice(NamedTuple):
    """What happened (`{domain}` is the recipient's), and what the sender can do."""

    happened: str
    remedy: str


class Phrases(NamedTuple):
    """One language's words for a whole report; `{…}` are filled in by mail/dsn.py."""

    tag: str
    display_name: str
    subjects: dict[str, str]  # by Action value
    opening: str
    opening_without_subject: str
    news: dict[str, str]  # by Action value
    retry: str
    tried: str
    said: str
    detail: str
    closing: dict[str, str]  # by Action value; "" for none
    attached_whole: str
    attached_header: str
    advice: dict[Cause, Advice]


ENGLISH = Phrases(
    tag="en",
    display_name="Mail Delivery System",
    subjects={
        "failed": "Not delivered: {subject}",
        "delayed": "Delayed, still trying: {subject}",
        "delivered": "Delivered: {subject}",
        "relayed": "Passed on: {subject}",
        "expanded": "Delivered to a list: {subject}",
    },
    opening="This is the mail server {host}. It is about your letter\n\n"
    '    "{subject}"\n\nthat was handed in here on {date}.',
    opening_without_subject="This is the mail server {host}. It is about your letter that was handed in here on "
    "{date}.",
    news={
        "failed": "It could NOT be delivered to the following recipient(s). No further attempt will be made.",
        "delayed": "It could not be delivered yet to the following recipient(s). You need not send it again: "
        "this server goes on trying.",
        "delivered": "It was delivered to the following recipient(s), as you asked to be told.",
        "relayed": "It was passed on to another mail server for the following recipient(s). That server does not "
        "report on delivery, so there may be no further word.",
        "expanded": "It was delivered to the members of the following list(s). There may be no further word.",
    },
    retry="Tried since {since}. Attempts go on until {until}.",
    tried="Tried from {since} to {until}.",
    said="{host} answered:",
    detail="Details:",
    closing={
        "failed": "If you need help, show this whole letter to your mail administrator.",
        "delayed": "You will be told if it cannot be delivered in the end.",
        "delivered": "",
        "relayed": "",
        "expanded": "",
    },
    attached_whole="Your letter is attached.",
    attached_header="The header of your letter is attached.",
    advice={
        Cause.UNKNOWN_MAILBOX: Advice(
            "There is no mailbox of this name at {domain}.",
            "Check the spelling of the part before the @, or ask the recipient for the right address.",
        ),
        Cause.UNKNOWN_DOMAIN: Advice(
            "There is no domain {domain} that could receive mail.",
            "Check the spelling of the part behind the @.",
        ),
        Cause.NO_MAIL_DOMAIN: Advice(
            "The domain {domain} says that it takes no mail at all.",
            "Check the spelling of the part behind the @, or ask the recipient for another address.",
        ),
        Cause.BAD_ADDRESS: Advice("This address is not usable.", "Check the address and send the letter again."),
        Cause.MOVED: Advice(
            "This mailbox has moved to another address.", "Ask the recipient for the new address and use that."
        ),
        Cause.SENDER_REFUSED: Advice(
            "The recipient's server does not accept your sender address.",
            "Check the sender address in your mail program, or ask your mail administrator.",
        ),
        Cause.MAILBOX_DISABLED: Advice(
            "The mailbox exists but takes no mail.", "Reach the recipient in another way and ask."
        ),
        Cause.MAILBOX_FULL: Advice(
            "The recipient's mailbox is full.",
            "Tell the recipient in another way, and send the letter again when there is room.",
        ),
        Cause.TOO_BIG: Advice(
            "The letter is too big for the recipient's server or mailbox.",
            "Send smaller attachments, several letters, or a link to the files.",
        ),
        Cause.HOST_DOWN: Advice(
            "The mail server of {domain} could not be reached.",
            "It may be down for a while. Send the letter again later, or reach the recipient in another way.",
        ),
        Cause.HOST_FAULT: Advice(
            "The mail server of {domain} reports a fault of its own.", "Send the letter again later."
        ),
        Cause.DNS_FAULT: Advice(
            "It could not be found out which server receives mail for {domain}.",
            "Check the spelling of the part behind the @, and send the letter again later.",
        ),
        Cause.NO_ROUTE: Advice(
            "No server was found that receives mail for {domain}.", "Check the spelling of the part behind the @."
        ),
        Cause.LOOP: Advice(
            "The letter went round in a circle between mail servers.",
            "Tell your mail administrator: a forwarding is set up wrongly.",
        ),
        Cause.EXPIRED: Advice(
            "The mail server of {domain} did not take the letter in all the time it was tried.",
            "Send the letter again later, or reach the recipient in another way.",
        ),
        Cause.PROTOCOL: Advice(
            "The mail server of {domain} did not understand this server.", "Tell your mail administrator."
        ),
        Cause.TOO_MANY_RECIPIENTS: Advice(
            "The letter has too many recipients at once.", "Send it to fewer recipients at a time."
        ),
        Cause.CONTENT: Advice(
            "The recipient's server does not accept the form of this letter.",
            "Send it as plain text, or with other attachments.",
        ),
        Cause.NO_SMTPUTF8: Advice(
            "The mail server of {domain} does not support international addresses, which this letter uses.",
            "Use addresses of plain ASCII letters, for the sender, too.",
        ),
        Cause.NO_ENCRYPTION: Advice(
            "An encrypted connection was required, but could not be made.", "Tell your mail administrator."
        ),
        Cause.NOT_AUTHENTICATED: Advice(
            "The recipient's server could not make sure that the letter comes from your domain.",
            "Tell your mail administrator: the domain's SPF, DKIM or DMARC records need a look.",
        ),
        Cause.POLICY: Advice(
            "The recipient's server refuses the letter by its rules, perhaps because it looks like junk.",
            "Read the server's answer below. Write differently, or reach the recipient in another way.",
        ),
        Cause.LATER: Advice(
            "The recipient's server asked this server to come back later.", "There is nothing you need to do now."
        ),
        Cause.OTHER: Advice(
            "The recipient's server did not accept the letter.", "Read the server's answer below, or ask the recipient."
        ),
    },
)

CHINESE = Phrases(
    tag="zh",
    display_name="邮件投递系统",
    subjects={
        "failed": "未能送达：{subject}",
        "delayed": "暂未送达，仍在尝试：{subject}",
        "delivered": "已送达：{subject}",
        "relayed": "已转交：{subject}",
        "expanded": "已发送至邮件列表：{subject}",
    },
    opening="这里是邮件服务器 {host}。这是关于您的邮件\n\n    “{subject}”\n\n的通知，该邮件于 {date} 提交到本服务器。",
    opening_without_subject="这里是邮件服务器 {host}。这是关于您于 {date} 提交到本服务器的邮件的通知。",
    news={
        "failed": "邮件未能送达以下收件人，服务器不会再尝试投递。",
        "delayed": "邮件暂时未能送达以下收件人。您无需重新发送：服务器会继续尝试。",
        "delivered": "按照您的要求通知：邮件已送达以下收件人。",
        "relayed": "邮件已转交给以下收件人的邮件服务器。该服务器不提供送达回执，之后可能不会再有通知。",
        "expanded": "邮件已发送给以下邮件列表的成员，之后可能不会再有通知。",
    },
    retry="自 {since} 起尝试投递，将持续到 {until}。",
    tried="尝试投递的时间：{since} 至 {until}。",
    said="{host} 的答复：",
    detail="详细信息：",
    closing={
        "failed": "如需帮助，请把这封通知完整地转给您的邮件管理员。",
        "delayed": "如果最终无法送达，您会再收到通知。",
        "delivered": "",
        "relayed": "",
        "expanded": "",
    },
    attached_whole="随信附上您的原邮件。",
    attached_header="随信附上您原邮件的信头。",
    advice={
        Cause.UNKNOWN_MAILBOX: Advice(
            "{domain} 上没有这个名字的邮箱。", "请检查地址中 @ 之前的部分，或向收件人询问正确的地址。"
        ),
        Cause.UNKNOWN_DOMAIN: Advice("没有能够接收邮件的域名 {domain}。", "请检查地址中 @ 之后的部分。"),
        Cause.NO_MAIL_DOMAIN: Advice(
            "域名 {domain} 声明不接收任何邮件。", "请检查地址中 @ 之后的部分，或向收件人询问其他地址。"
        ),
        Cause.BAD_ADDRESS: Advice("这个地址无法使用。", "请检查地址后重新发送。"),
        Cause.MOVED: Advice("这个邮箱已改用其他地址。", "请向收件人询问新地址。"),
        Cause.SENDER_REFUSED: Advice(
            "对方服务器不接受您的发件人地址。", "请检查邮件程序中的发件人地址，或询问您的邮件管理员。"
        ),
        Cause.MAILBOX_DISABLED: Advice("该邮箱存在，但目前不接收邮件。", "请用其他方式联系收件人。"),
        Cause.MAILBOX_FULL: Advice("收件人的邮箱已满。", "请用其他方式告知收件人，等邮箱有空间后再发送。"),
        Cause.TOO_BIG: Advice("邮件过大，对方的服务器或邮箱不接受。", "请缩小附件、分几封发送，或改为发送文件的链接。"),
        Cause.HOST_DOWN: Advice(
            "无法连接 {domain} 的邮件服务器。", "对方服务器可能暂时停机。请稍后重新发送，或用其他方式联系收件人。"
        ),
        Cause.HOST_FAULT: Advice("{domain} 的邮件服务器报告自身有故障。", "请稍后重新发送。"),
        Cause.DNS_FAULT: Advice(
            "无法查到由哪台服务器接收 {domain} 的邮件。", "请检查地址中 @ 之后的部分，并稍后重新发送。"
        ),
        Cause.NO_ROUTE: Advice("没有找到接收 {domain} 邮件的服务器。", "请检查地址中 @ 之后的部分。"),
        Cause.LOOP: Advice("邮件在服务器之间循环转发。", "请告诉您的邮件管理员：某处的转发设置有误。"),
        Cause.EXPIRED: Advice(
            "在整个尝试期间，{domain} 的邮件服务器一直没有接收这封邮件。", "请稍后重新发送，或用其他方式联系收件人。"
        ),
        Cause.PROTOCOL: Advice("{domain} 的邮件服务器无法理解本服务器的请求。", "请告诉您的邮件管理员。"),
        Cause.TOO_MANY_RECIPIENTS: Advice("邮件的收件人一次过多。", "请分批发送。"),
        Cause.CONTENT: Advice("对方服务器不接受这封邮件的格式。", "请改用纯文本或其他附件发送。"),
        Cause.NO_SMTPUTF8: Advice(
            "{domain} 的邮件服务器不支持这封邮件所用的国际化地址。", "请使用由英文字母组成的地址，发件人地址也一样。"
        ),
        Cause.NO_ENCRYPTION: Advice("要求使用加密连接，但无法建立。", "请告诉您的邮件管理员。"),
        Cause.NOT_AUTHENTICATED: Advice(
            "对方服务器无法确认邮件确实来自您的域名。", "请告诉您的邮件管理员：需要检查域名的 SPF、DKIM 或 DMARC 记录。"
        ),
        Cause.POLICY: Advice(
            "对方服务器按其规则拒绝了邮件，可能认为它是垃圾邮件。",
            "请看下面对方服务器的答复，修改邮件后再发送，或用其他方式联系收件人。",
        ),
        Cause.LATER: Advice("对方服务器要求稍后再试。", "您目前不需要做什么。"),
        Cause.OTHER: Advice("对方服务器没有接受邮件。", "请看下面对方服务器的答复，或询问收件人。"),
    },
)


def phrases(language: str) -> Phrases:
    """The words for a language tag (RFC 5646); English for all but Chinese."""
    return CHINESE if language.lower().replace("_", "-").split("-")[0] == "zh" else ENGLISH
