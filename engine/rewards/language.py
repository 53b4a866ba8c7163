"""Which script a text is written in: enough to tell whether a Chinese question got an English answer."""

import re

from engine.rewards.checks import TAGS

_TAG = re.compile("|".join(map(re.escape, TAGS)))
_HAN = re.compile("[\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af]")
_LATIN = re.compile("[A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u024f\u1e00-\u1eff]{2,}")  # a lone x is no language
_HAN_SHARE = 0.3
"""From which share of Chinese characters among all letters a text is Chinese: one says what three letters do."""


def language_of(text: str) -> str | None:
    """`zh` or `en` (any language in latin letters) by the share of letters; None where there are none.

    Tags, digits, signs and single latin letters (variables) do not count.
    """
    words = _TAG.sub(" ", text)
    han, latin = len(_HAN.findall(words)), sum(map(len, _LATIN.findall(words)))
    if not han + latin:
        return None
    return "zh" if han >= _HAN_SHARE * (han + latin) else "en"
