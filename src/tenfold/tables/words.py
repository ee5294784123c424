"""Words as PostgreSQL's searches take them, by the rules that FTS5 has on SQLite.

PostgreSQL's own parsers take `a/b` for a path and `24-inch` for a number, and
leave the case of letters to the database's locale, so an index over them may
fall apart when the operating system's locales change. So a function of our own
makes the words. A word is a run of letters and digits; case and accents are
folded: by the locale "C" for ASCII, by decomposition for accented letters, and
by a table, written into the function, for the others.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

__all__ = ["WORDS_FUNCTION", "folded_words", "words_function_sql"]

WORDS_FUNCTION: Final = "tenfold_words"
"""The function that takes a text apart; one in each schema that has a search index."""

_WORD: Final = re.compile(r"[^\W_]+")
_ACCENTS: Final = re.compile("[\u0300-\u036f]+")
_LONGEST_WORD: Final = 500
_LONGEST_TEXT: Final = 250_000
_SURROGATES: Final = range(0xD800, 0xE000)
_FUNCTION: Final = """
CREATE OR REPLACE FUNCTION {name}(given text) RETURNS text[]
LANGUAGE plpgsql IMMUTABLE PARALLEL SAFE AS $words$
DECLARE
    folded text := lower(left(given, {longest}) COLLATE "C");
BEGIN
    IF given IS NULL THEN
        RETURN '{{}}';
    END IF;
    IF octet_length(folded) = char_length(folded) THEN
        RETURN ARRAY(
            SELECT left(word, {word}) FROM regexp_split_to_table(folded, '[^a-z0-9]+') AS word
            WHERE word <> ''
        );
    END IF;
    folded := lower(
        regexp_replace(normalize(folded, NFD), '[\\u0300-\\u036F]+', '', 'g') COLLATE "C"
    );
    IF octet_length(folded) <> char_length(folded) THEN
        folded := translate(folded, '{upper}', '{lower}');
    END IF;
    RETURN ARRAY(
        SELECT left(word, {word})
        FROM regexp_split_to_table(folded, '[\\u0001-\\u002F\\u003A-\\u0060\\u007B-\\u007F{gaps}]+')
            AS word
        WHERE word <> ''
    );
END
$words$
"""


def folded_words(text: str) -> list[str]:
    """The words of a text, as the function makes them, without repetitions."""
    plain = _ACCENTS.sub("", unicodedata.normalize("NFD", text))
    folded = "".join([_lower(character) for character in plain])
    return [word[:_LONGEST_WORD] for word in dict.fromkeys(_WORD.findall(folded))]


def _lower(character: str) -> str:
    made = character.lower()
    return made if len(made) == 1 else character


@lru_cache(maxsize=4)
def words_function_sql(schema: str = "") -> str:
    """The statement that makes the function. Making it again changes nothing.

    Args:
        schema: quoted, with its dot; empty for the first of the search_path.
    """
    folded = ((each, _lower(each)) for each in _characters())
    pairs = [pair for pair in folded if pair[0] != pair[1]]
    return _FUNCTION.format(
        name=f"{schema}{WORDS_FUNCTION}",
        longest=_LONGEST_TEXT,
        word=_LONGEST_WORD,
        upper="".join(upper for upper, _ in pairs),
        lower="".join(lower for _, lower in pairs),
        gaps="".join(_gaps()),
    )


def _characters() -> Iterator[str]:
    """Every character beyond ASCII that has no parts."""
    for code in range(0x80, 0x110000):
        if code not in _SURROGATES and unicodedata.is_normalized("NFD", chr(code)):
            yield chr(code)


def _gaps() -> Iterator[str]:
    """The ranges beyond ASCII that are neither letters nor digits, for a regular expression."""
    begun: int | None = None
    for code in range(0x80, 0x110001):
        gap = code < 0x110000 and code not in _SURROGATES and not chr(code).isalnum()
        if gap and begun is None:
            begun = code
        elif not gap and begun is not None:
            yield f"\\U{begun:08X}-\\U{code - 1:08X}"
            begun = None
