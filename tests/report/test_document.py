from html.parser import HTMLParser

from clipedu.report.document import Code, Heading, Picture, Table, Text, to_html, to_markdown

EVIL = "<script>alert('x')</script> & | `a` *b* _c_ [d](e) $f$"
BLOCKS = [
    Heading(EVIL),
    Text(EVIL, items=[EVIL], warning=True),
    Code(f"one\n{EVIL}"),
    Table(("name", "score"), [(EVIL, "1.50"), ("b", "–")], best={1}, note=EVIL),
    Picture("loss", b"\x89PNG not really", EVIL),
]


class Reader(HTMLParser):
    """Collects tags, attributes and text, and checks that what is opened is closed."""

    def __init__(self, html):
        super().__init__()
        self.open, self.tags, self.attributes, self.texts = [], [], [], []
        self.feed(html)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.attributes += attrs
        if tag not in ("meta", "img"):
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.texts.append(data)


def test_html_is_whole_and_takes_every_text_literally():
    page = Reader(to_html(EVIL, BLOCKS))
    assert page.open == []
    assert "script" not in page.tags
    # title twice (<title>, <h1>), heading, paragraph, item, cell, note, caption of the figure
    assert page.texts.count(EVIL) == 8
    assert f"one\n{EVIL}" in page.texts
    assert ("alt", EVIL) in page.attributes


def test_html_needs_nothing_from_outside():
    page = Reader(to_html("t", BLOCKS))
    assert not {"link", "script", "iframe"} & set(page.tags)
    sources = [value for name, value in page.attributes if name in ("src", "href")]
    assert len(sources) == 1 and sources[0].startswith("data:image/png;base64,")
    assert "http" not in to_html("t", BLOCKS) and "url(" not in to_html("t", BLOCKS)


def test_numbers_stand_to_the_right_and_the_best_row_is_set_off(tmp_path):
    assert '<td class="n s">1.50</td>' in to_html("t", BLOCKS)
    assert '<tr class=best><td class="">b</td>' in to_html("t", BLOCKS)
    lines = to_markdown("t", BLOCKS, tmp_path).splitlines()
    assert "| --- | --: |" in lines
    assert "| **b** | **–** |" in lines


def test_markdown_escapes_and_writes_its_figures(tmp_path):
    text = to_markdown(EVIL, BLOCKS, tmp_path)
    assert (tmp_path / "plots" / "loss.png").read_bytes() == b"\x89PNG not really"
    assert "](plots/loss.png)" in text
    outside_code = [line for line in text.splitlines() if not line.startswith("    ")]
    assert not any("<script" in line or "| `" in line for line in outside_code)
    row = next(line for line in outside_code if "1.50" in line)
    assert row.replace(r"\|", "").count("|") == 3  # the bar in the text makes no column


def test_text_stays_on_its_line_in_markdown(tmp_path):
    assert to_markdown("a\nb", [Text("c\n\nd")], tmp_path) == "# a b\n\nc d\n"
