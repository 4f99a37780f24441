"""Names as they are typed: one spelling for what looks the same."""

import re
import unicodedata

__all__ = ["GREEK", "normal_name"]

# Greek letters that do not look like Latin ones.
GREEK = "αβγδεζηθκλμνξπρστφχψωΓΔΘΛΞΠΣΦΨΩ"
_NAME = re.compile(rf"[A-Za-z{GREEK}][A-Za-z0-9_{GREEK}]*")


def normal_name(text: str) -> str | None:
    """A parameter's name in the one spelling that Python's parser gives it, or None.

    The parser takes the micro sign for the letter mu, and letters of other widths and weights for
    plain ones (normal form NFKC).  Letters of other alphabets, many of which can't be told
    from Latin ones on a screen, are in no name.

    Examples
    --------
    >>> normal_name("tau_1"), normal_name("\u00b5"), normal_name("__class__")
    ('tau_1', 'μ', None)
    """
    name = unicodedata.normalize("NFKC", text)
    return name if _NAME.fullmatch(name) else None
