"""Clean captions before they become tokens.

    False    as they are; our tokenizers and those of uncased models make lower case of them all the same
    True     as the course does: lower case, no punctuation, the first 30 words
    "web"    as open_clip's tokenizer does: wrong encodings and curly quotes mended (ftfy), HTML unescaped, single spaces

Captions of the web hold what a page holds: `&amp;` for "&", and "itâ€™s" where somebody read UTF-8 as another encoding. CLIP and
open_clip mend that in their tokenizer, for every caption and prompt.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Iterable, Sequence

from clipedu.utils.errors import ClipeduError

_STRIPPED = str.maketrans({**dict.fromkeys(",.'!?\"()*#:;~"), "-": " ", "/": " "})
_ENTITY = re.compile(r"&(#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[a-zA-Z][a-zA-Z0-9]{1,30});")


def cleaned(texts: Sequence[str], how: bool | str) -> list[str]:
    """Clean texts: `clean_caption` for True, `clean_web_caption` for "web".

    Raises:
        ClipeduError: "web" without ftfy, or another word.
    """
    check_cleaning(how)
    if how is False:
        return list(texts)
    return list(map(clean_web_caption if how == "web" else clean_caption, texts))


def check_cleaning(how: bool | str) -> None:
    """Check that captions can be cleaned in a way.

    Raises:
        ClipeduError: "web" without ftfy, or another word than that.
    """
    if how not in (False, True, "web"):
        raise ClipeduError(f"captions cannot be cleaned by {how!r}. Allowed: False, True, 'web'")
    if how == "web":
        try:
            import ftfy  # noqa: F401
        except ImportError:
            raise ClipeduError(
                "clean_captions='web' needs ftfy, which is not installed: pip install ftfy, or pip install 'clipedu[web]'"
            ) from None


def is_blank(text: str) -> bool:
    """Check whether a text shows nothing: spaces and invisible characters.

    >>> is_blank(" \u200b\ufeff"), is_blank("a")
    (True, False)
    """
    return all(letter.isspace() or unicodedata.category(letter) in ("Cc", "Cf") for letter in text)


def clean_caption(text: str) -> str:
    """Clean a caption as the course does.

    The result has lower case, no punctuation, single spaces and at most 30 words.

    Removed are , . ' ! ? " ( ) * # : ; ~ ; "-" and "/" become spaces; the placeholder <person> becomes the word.
    """
    return " ".join(text.lower().translate(_STRIPPED).replace("<person>", "person").split()[:30])


def clean_web_caption(text: str) -> str:
    """Clean a caption as open_clip does, but for the lower case.

    Wrong encodings and typographic quotes are mended by ftfy, HTML is unescaped twice ("&amp;amp;" is "&"), and spaces are single.
    """
    import ftfy

    return " ".join(html.unescape(html.unescape(ftfy.fix_text(text))).split())


def count_escaped(captions: Iterable[str]) -> int:
    """Count the captions that hold escaped HTML, such as `&amp;`."""
    return sum(1 for caption in captions if has_html(caption))


def has_html(caption: str) -> bool:
    """Check whether a caption holds escaped HTML, such as `&amp;`."""
    return any(html.unescape(found[0]) != found[0] for found in _ENTITY.finditer(caption))
