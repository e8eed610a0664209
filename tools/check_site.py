"""Check the links of the built site: python tools/check_site.py FOLDER.

Every link within the site has to lead to a file that is there, and to a place in it that is there.
Scripts, styles and pictures may come from the site alone, so that no network is needed to read it.
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# Pages that Sphinx makes, whose links are made by scripts.
MADE_BY_SCRIPTS = {"search.html"}


class Page(HTMLParser):
    """The places of a page, where it links to, and what it loads."""

    def __init__(self, path):
        super().__init__()
        self.places, self.links, self.loads = set(), [], []
        self.feed(path.read_text("utf-8"))

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.places |= {attributes[name] for name in ("id", "name") if attributes.get(name)}
        if tag == "a" and attributes.get("href"):
            self.links.append(attributes["href"])
        elif attributes.get("src"):
            self.loads.append(attributes["src"])
        elif tag == "link" and attributes.get("href"):
            self.loads.append(attributes["href"])


def faults(site):
    pages = {path: Page(path) for path in sorted(site.rglob("*.html"))}
    if not pages:
        yield f"{site} has no pages"
    for path, page in pages.items():
        if path.name in MADE_BY_SCRIPTS:
            continue
        for link in [*page.links, *page.loads]:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                if link in page.loads and parts.scheme != "data":
                    yield f"{path.relative_to(site)}: {link} is loaded from elsewhere"
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if not target.is_file():
                yield f"{path.relative_to(site)}: {link} leads to no file"
            elif parts.fragment and unquote(parts.fragment) not in places(pages, target):
                yield f"{path.relative_to(site)}: {link} leads to no place in that file"


def places(pages, target):
    return pages[target].places if target in pages else set()


def main():
    site = Path(sys.argv[1]).resolve()
    found = list(faults(site))
    print("\n".join(found) or f"links of {len(list(site.rglob('*.html')))} pages lead somewhere")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
