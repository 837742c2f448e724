"""How refusals begin in languages other than English: German, French, Spanish, Italian, Portuguese, Russian, Chinese,
Japanese.

Each is an apology or none, then that the writer can't, then what of. An apology alone is no refusal, nor is what
somebody else can't do. All that is between is bounded, so that no text is searched for long.
"""

from __future__ import annotations

import re

_ASIDE = r"[^.!?\n]{0,60}?"
_SPACE = r"[\s,.;:!\u2013\u2014-]{1,4}"
_SIGNS = r"[\s,\uff0c\u3001\u3002\uff01!.]{0,3}"
_GERMAN = (
    rf"(?:(?:es tut mir (?:sehr |wirklich )?leid|tut mir (?:sehr )?leid|entschuldigung|sorry|leider"
    rf"|aber){_SPACE}){{0,3}}"
    rf"(?:(?:dabei|damit|hierbei|das|diese[rsn]? \w{{1,20}}) kann ich|ich kann|leider kann ich|kann"
    rf" ich)\b{_ASIDE}\bnicht\b"
    rf"{_ASIDE}\b(?:(?:weiter)?helfen|behilflich|unterst\u00fctzen|beantworten|bereitstellen|erstellen|nachkommen"
    r"|erf\u00fcllen|dienen|bearbeiten)\b"
)
_FRENCH = (
    rf"(?:(?:je suis (?:vraiment |sinc\u00e8rement )?d\u00e9sol\u00e9e?|d\u00e9sol\u00e9e?|malheureusement"
    rf"|je regrette|mais)"
    rf"{_SPACE}){{0,3}}(?:je ne (?:peux|puis) (?:malheureusement )?pas|je ne suis pas en mesure|il"
    rf" m'est impossible)\b{_ASIDE}"
    r"\b(?:aider|assister|r\u00e9pondre|fournir|satisfaire|cr\u00e9er|g\u00e9n\u00e9rer|donner suite|traiter"
    r"|accomplir)\b"
)
_SPANISH = (
    rf"(?:(?:lo siento(?: mucho)?|lamentablemente|lo lamento|disculp[ae]|perd\u00f3n|pero){_SPACE}){{0,3}}"
    rf"no (?:puedo|me es posible|estoy en condiciones)\b{_ASIDE}\b(?:ayudar|asistir|proporcionar|responder"
    rf"|cumplir|generar"
    r"|crear|ofrecer|atender)"
)
_ITALIAN = (
    rf"(?:(?:mi dispiace(?: molto)?|purtroppo|spiacente|ma){_SPACE}){{0,3}}non (?:posso|sono in grado)\b{_ASIDE}"
    r"\b(?:aiutar|assister|fornir|risponder|soddisfar|crear|generar)"
)
_PORTUGUESE = (
    rf"(?:(?:desculp[ae]|lamento|sinto muito|infelizmente|mas){_SPACE}){{0,3}}n\u00e3o (?:posso|consigo"
    rf"|me \u00e9 poss\u00edvel)\b"
    rf"{_ASIDE}\b(?:ajud|auxiliar|fornecer|responder|atender|criar|gerar)"
)
_RUSSIAN = (
    rf"(?:(?:\u043a \u0441\u043e\u0436\u0430\u043b\u0435\u043d\u0438\u044e"
    rf"|\u0438\u0437\u0432\u0438\u043d\u0438\u0442\u0435"
    rf"|\u043f\u0440\u043e\u0441\u0442\u0438\u0442\u0435|\u043c\u043d\u0435 \u0436\u0430\u043b\u044c"
    rf"|\u043d\u043e){_SPACE}){{0,3}}"
    rf"\u044f (?:\u043a \u0441\u043e\u0436\u0430\u043b\u0435\u043d\u0438\u044e,? )?\u043d\u0435 "
    rf"(?:\u043c\u043e\u0433\u0443|"
    rf"\u0441\u043c\u043e\u0433\u0443)\b{_ASIDE}\b(?:\u043f\u043e\u043c\u043e\u0447\u044c"
    rf"|\u043e\u0442\u0432\u0435\u0442\u0438\u0442\u044c"
    r"|\u043f\u0440\u0435\u0434\u043e\u0441\u0442\u0430\u0432\u0438\u0442\u044c"
    r"|\u0432\u044b\u043f\u043e\u043b\u043d\u0438\u0442\u044c"
    r"|\u0441\u043e\u0437\u0434\u0430\u0442\u044c)\b"
)
_CHINESE = (
    rf"(?:(?:\u975e\u5e38|\u5f88)?(?:\u62b1\u6b49|\u5bf9\u4e0d\u8d77|\u5c0d\u4e0d\u8d77){_SIGNS})?"
    rf"(?:\u4f46\u662f?)?(?:\u6211)?(?:\u4e0d\u80fd|\u65e0\u6cd5|\u7121\u6cd5"
    rf"|\u6ca1\u529e\u6cd5)[^\u3002\uff01\uff1f\n]{{0,20}}?"
    r"(?:\u5e2e|\u5e6b|\u63d0\u4f9b|\u56de\u7b54|\u534f\u52a9|\u5354\u52a9|\u6ee1\u8db3|\u6eff\u8db3"
    r"|\u5b8c\u6210|\u5904\u7406)"
)
_JAPANESE = (
    rf"(?:\u7533\u3057\u8a33(?:\u3042\u308a\u307e\u305b\u3093|\u3054\u3056\u3044\u307e\u305b\u3093)"
    rf"|\u3059\u307f\u307e\u305b\u3093"
    rf"|\u6b8b\u5ff5\u306a\u304c\u3089)(?:\u304c)?{_SIGNS}[^\u3002\uff01\uff1f\n]{{0,40}}?"
    r"(?:\u304a\u624b\u4f1d\u3044|\u304a\u7b54\u3048|\u63d0\u4f9b|\u5bfe\u5fdc"
    r"|\u56de\u7b54)[^\u3002\uff01\uff1f\n]{0,10}?"
    r"(?:\u3067\u304d\u307e\u305b\u3093|\u3044\u305f\u3057\u304b\u306d\u307e\u3059"
    r"|\u3067\u304d\u304b\u306d\u307e\u3059)"
)
_LANGUAGES = (_GERMAN, _FRENCH, _SPANISH, _ITALIAN, _PORTUGUESE, _RUSSIAN, _CHINESE, _JAPANESE)

REFUSAL_ABROAD = re.compile(rf"[\s\"*]{{0,9}}(?:{'|'.join(_LANGUAGES)})", re.IGNORECASE)
"""Matches at the beginning of a refusal."""
