"""Which language a text is in, told from its script and its commonest words; "und" where they do not tell."""

from __future__ import annotations

import re

LOOKED_AT_CHARS = 2_000

_SCRIPTS = (
    ("ja", re.compile(r"[\u3040-\u30ff]")),
    ("ko", re.compile(r"[\uac00-\ud7af]")),
    ("zh", re.compile(r"[\u4e00-\u9fff]")),
    ("ru", re.compile(r"[\u0400-\u04ff]")),
    ("ar", re.compile(r"[\u0600-\u06ff]")),
    ("he", re.compile(r"[\u0590-\u05ff]")),
    ("hi", re.compile(r"[\u0900-\u097f]")),
    ("th", re.compile(r"[\u0e00-\u0e7f]")),
    ("el", re.compile(r"[\u0370-\u03ff]")),
)

_COMMON: dict[str, frozenset[str]] = {
    language: frozenset(words.split())
    for language, words in {
        "en": "the and is are of to in you what how my i it for with this that can do please was have not your on",
        "de": "der die das und ist ich nicht ein eine wie was mit auf für sie bitte wo mein zu von den im es wir",
        "fr": "le la les et est je pas une un des que pour dans vous mon où comment avec ce qui sur du au bonjour",
        "es": "el la los y es no una un que por para en mi cómo dónde con está de se lo qué las del hola",
        "it": "il la che non è un una per di mi come dove con sono le gli del ciao questo ho si nel",
        "pt": "o a os e é não um uma que para em meu como onde com está de se as do da olá você por",
        "nl": "de het een en is ik niet van mijn hoe wat met op voor waar je dat te zijn er maar ook",
        "pl": "i w nie jest to na się że jak co mój gdzie z do czy proszę po dla o od",
        "sv": "och är jag inte en ett det att som hur vad min var med på för den av har",
        "tr": "ve bir bu ne için nasıl nerede benim değil mi ile var çok da de",
    }.items()
}
_WORD = re.compile(r"[^\W\d_]+")


def language_of(text: str) -> str:
    """Return the ISO 639-1 code of a text's language, or "und" where its words do not tell."""
    looked_at = text[:LOOKED_AT_CHARS]
    if not looked_at.isascii():
        letters = max(1, sum(map(str.isalpha, looked_at)))
        for language, script in _SCRIPTS:
            if len(script.findall(looked_at)) * 5 > letters:
                return language
    words = _WORD.findall(looked_at.lower())
    hits = {language: sum(word in common for word in words) for language, common in _COMMON.items()}
    best = max(hits, key=lambda language: hits[language])
    runner_up = max((count for language, count in hits.items() if language != best), default=0)
    return best if hits[best] > runner_up else "und"
