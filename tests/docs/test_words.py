"""Metaphors and vague pronouns that the sources do without: the field has words of its own.

Looked for as whole words: in names of the code, of its tests and tools; in docstrings and comments
of the package; in its documents.
"""

from __future__ import annotations

import io
import re
import tokenize
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
#: Word -> what the field says instead.
WORDS = {
    "exchange": "xchg of an atomic operation, swap of two grant entries, a request and its answer",
    "gate": "a check, a condition",
    "house": "a host (xennet.host)",
    "interlude": "a scenario's step",
    "ledger": "counters, an allocator, a checker",
    "narrator": "a printer of a transcript",
    "offer": "features (of a backend); a page that is offered is GTF_accept_transfer's",
    "onlooker": "an observer, a client of the store's socket",
    "resident": "guests and vifs of a host",
    "standstill": "a missed event, a ring without requests",
    "story": "a transcript",
    "stranger": "a foreign driver, another program",
    "tale": "a transcript",
    "terms": "what was negotiated",
    "whoever": "the process, the caller, the driver ... by name",
    "witness": "a checker, evidence",
}
#: In names these say too little; in a sentence they are English.
IN_NAMES_ONLY = {"exchange", "offer", "terms"}
#: Word, begin of a path -> why it stands there.
KEPT = {
    ("house", "tests/public_api/test_moved.py"): "an old name",
    ("offer", "tests/adversary/test_grants_in_use.py"): "of a page, GTF_accept_transfer",
    ("offer", "tests/gnttab/"): "of a page, GTF_accept_transfer",
    ("offer", "tests/hypervisor/test_machine_life.py"): "of a page, GTF_accept_transfer; of a port",
    ("offer", "xennet/gnttab/hypercalls.py"): "of a page, GTF_accept_transfer",
    ("resident", "tests/memory/"): "memory that is resident",
    ("resident", "xennet/bench/peak_memory.py"): "memory that is resident",
    ("resident", "xennet/bench/xenstore.py"): "memory that is resident",
    ("story", "docs/cli.md"): "a key of the JSON layout",
    ("story", "xennet/cli/lifecycle.py"): "a key of the JSON layout",
}

_PART = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])")


def bare(word: str) -> str:
    """The word of the table, without the ending of a plural; any other as it is."""
    singulars = (word, word.removesuffix("s"), word.removesuffix("es"))
    return next((singular for singular in singulars if singular in WORDS), word)


def tokens_of(source: str) -> list[tokenize.TokenInfo]:
    return list(tokenize.generate_tokens(io.StringIO(source).readline))


def in_names(tokens: list[tokenize.TokenInfo]) -> Iterator[str]:
    """The words that names of a source are made of."""
    for name in {token.string for token in tokens if token.type == tokenize.NAME}:
        yield from (part.lower() for part in _PART.findall(name))


def in_sentences(tokens: list[tokenize.TokenInfo]) -> Iterator[str]:
    """The words of its docstrings and comments."""
    for token in tokens:
        text = token.string
        if token.type == tokenize.COMMENT or text.startswith(('"""', 'r"""')):
            yield from re.findall("[a-z]+", text.lower())


def found() -> Iterator[tuple[str, str]]:
    for folder in ("xennet", "tests", "tools"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            name, source = path.relative_to(ROOT).as_posix(), path.read_text()
            if not any(map(source.lower().__contains__, WORDS)):
                continue  # few sources have to be taken apart
            tokens = tokens_of(source)
            if path != Path(__file__):
                yield from ((bare(word), name) for word in in_names(tokens))
            if folder == "xennet":
                words = {bare(word) for word in in_sentences(tokens)} - IN_NAMES_ONLY
                yield from ((word, name) for word in words)
    for path in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        words = {bare(word) for word in re.findall("[a-z]+", path.read_text().lower())}
        yield from ((word, path.relative_to(ROOT).as_posix()) for word in words - IN_NAMES_ONLY)


def test_words_are_found() -> None:
    tokens = tokens_of(
        'class RingLedger:\n    """A house of\n    gates."""\n\ndef witnesses_offer():  # a tale\n'
    )
    assert {"ledger", "witness", "offer"} <= {bare(word) for word in in_names(tokens)}
    assert {"house", "gate", "tale"} <= {bare(word) for word in in_sentences(tokens)}


def test_no_name_or_sentence_has_them() -> None:
    here = {(word, path) for word, path in found() if word in WORDS}
    kept = {key for key in KEPT if any(w == key[0] and p.startswith(key[1]) for w, p in here)}
    assert {
        (word, path)
        for word, path in here
        if not any(word == w and path.startswith(begin) for w, begin in KEPT)
    } == set()
    assert kept == set(KEPT)
