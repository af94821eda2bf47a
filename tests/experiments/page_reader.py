"""A page as a browser sees it, for tests: tags, addresses, tables, text."""

import csv
import html.parser

MINUS = "\N{MINUS SIGN}"
NOTHING = "\N{EN DASH}"


class PageReader(html.parser.HTMLParser):
    """What a browser would see: tags, addresses, headings, the rows of all tables, the text."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.addresses, self.figures, self.rows, self.pieces = [], [], [], [], []
        self.headings = []
        self.inside = ""
        self.feed(text)
        self.text = " ".join(" ".join(self.pieces).replace("\N{NO-BREAK SPACE}", " ").split())

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [value for name, value in attrs if name in ("src", "href", "srcset")]
        if tag == "figure":
            self.figures.append(dict(attrs)["id"])
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th"):
            self.rows[-1].append("")
            self.inside = "cell"
        if tag == "h2":
            self.headings.append("")
            self.inside = "heading"

    def handle_endtag(self, tag):
        if tag in ("td", "th", "h2"):
            self.inside = ""

    def handle_data(self, data):
        self.pieces.append(data)
        if self.inside == "cell":
            self.rows[-1][-1] += data.strip()
        if self.inside == "heading":
            self.headings[-1] += data.strip()

    def row(self, first):
        """The only row that begins with this."""
        (found,) = [row for row in self.rows if row[:1] == [first]]
        return found


def read_page(path):
    return PageReader(path.read_text(encoding="utf-8"))


def read_csv(path):
    with path.open(newline="") as file:
        return list(csv.DictReader(file))
