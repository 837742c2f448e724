"""How refusals begin in languages other than English.

Each is an apology or none, then that the writer can't, then what of, within one sentence. An apology alone is no
refusal, nor is what somebody else can't do. All that is between is bounded, so that no text is searched for long.
"""

from __future__ import annotations

import re
from typing import NamedTuple


class _Refusal(NamedTuple):
    """Patterns of one language, in the order in which a refusal has them."""

    apology: str
    cannot: str
    of_what: str


_SPACED = (
    _Refusal(
        "es tut mir (?:sehr |wirklich )?leid|tut mir (?:sehr )?leid|entschuldigung|sorry|leider|aber",
        r"(?:(?:(?:dabei|damit|hierbei|das|diese[rsn]? \w{1,20}) |leider )?kann ich|ich kann)\b[^.!?\n]{0,60}?\bnicht",
        r"(?:(?:weiter)?helfen|behilflich|unterstützen|beantworten|bereitstellen|erstellen|nachkommen|erfüllen|dienen"
        r"|bearbeiten)\b",
    ),
    _Refusal(
        "je suis (?:vraiment |sincèrement )?désolée?|désolée?|malheureusement|je regrette|mais",
        "je ne (?:peux|puis) (?:malheureusement )?pas|je ne suis pas en mesure|il m'est impossible",
        r"(?:aider|assister|répondre|fournir|satisfaire|créer|générer|donner suite|traiter|accomplir)\b",
    ),
    _Refusal(
        "lo siento(?: mucho)?|lamentablemente|lo lamento|disculp[ae]|perdón|pero",
        "no (?:puedo|me es posible|estoy en condiciones)",
        "(?:ayudar|asistir|proporcionar|responder|cumplir|generar|crear|ofrecer|atender)",
    ),
    _Refusal(
        "mi dispiace(?: molto)?|purtroppo|spiacente|ma",
        "non (?:posso|sono in grado)",
        "(?:aiutar|assister|fornir|risponder|soddisfar|crear|generar)",
    ),
    _Refusal(
        "desculp[ae]|lamento|sinto muito|infelizmente|mas",
        "não (?:posso|consigo|me é possível)",
        "(?:ajud|auxiliar|fornecer|responder|atender|criar|gerar)",
    ),
    _Refusal(
        "к сожалению|извините|простите|мне жаль|но",
        "я (?:к сожалению,? )?не (?:могу|смогу)",
        r"(?:помочь|ответить|предоставить|выполнить|создать)\b",
    ),
)
"""German, French, Spanish, Italian, Portuguese and Russian, which part their words by spaces."""
_CHINESE = _Refusal(
    "(?:非常|很)?(?:抱歉|对不起|對不起)",
    "(?:但是?)?我?(?:不能|无法|無法|没办法)",
    "[^。！？\n]{0,20}?(?:帮|幫|提供|回答|协助|協助|满足|滿足|完成|处理)",
)
_JAPANESE = _Refusal(
    "(?:申し訳(?:ありません|ございません)|すみません|残念ながら)が?",
    "[^。！？\n]{0,40}?(?:お手伝い|お答え|提供|対応|回答)",
    "[^。！？\n]{0,10}?(?:できません|いたしかねます|できかねます)",
)
"""Here what is refused stands before the refusal, which is none without an apology."""
_SIGNS = r"[\s，、。！,.]{0,3}"

_PATTERNS = (
    *(
        rf"(?:(?:{apology})[\s,.;:!\u2013\u2014-]{{1,4}}){{0,3}}(?:{cannot})\b[^.!?\n]{{0,60}}?\b{of_what}"
        for apology, cannot, of_what in _SPACED
    ),
    rf"(?:{_CHINESE.apology}{_SIGNS})?{_CHINESE.cannot}{_CHINESE.of_what}",
    rf"{_JAPANESE.apology}{_SIGNS}{_JAPANESE.cannot}{_JAPANESE.of_what}",
)

REFUSAL_ABROAD = re.compile(rf"[\s\"*]{{0,9}}(?:{'|'.join(_PATTERNS)})", re.IGNORECASE)
"""Matches at the beginning of a refusal."""
