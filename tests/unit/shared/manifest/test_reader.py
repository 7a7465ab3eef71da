"""Catalogs are read as shops export them, and each error of a row says where it is."""

import json
from io import BytesIO

import pytest

from shared.errors import ParameterInvalid
from shared.manifest.csv_format import table_rows
from shared.manifest.keyed_formats import json_rows, xml_rows
from shared.manifest.row import ManifestRow, number_rows
from shared.manifest.text_lines import MAX_LINE_BYTES, WINDOW_BYTES, lines_of
from shared.manifest.zip_format import ImageArchive
from tests.support.batch_harness import zipped

SHOPIFY = (
    "\ufeffHandle,Title,Body (HTML),Vendor,Variant SKU,Variant Price,Image Src,Image Position,Image Alt Text\r\n"
    'blue-mug,Blue mug,"<p>A ""fine"" mug,\r\nfor tea</p>",Acme,MUG-7,12.00,https://cdn.example/b.jpg,2,side\r\n'
    "blue-mug,,,,MUG-7-XL,14.00,https://cdn.example/a.jpg,1,front\r\n"
    "blue-mug,,,,,,https://cdn.example/c.jpg,3,\r\n"
    "tray,Tray,,Acme,,5.00,https://cdn.example/t.jpg,1,\r\n"
)
GOOGLE = (
    "id\ttitle\timage_link\tprice\tproduct_height\tproduct_width\n"
    "G-1\tMug\thttps://cdn.example/m.jpg\t12.00 EUR\t9.5 cm\t3 in\n"
)


def csv_rows(text: str | bytes, *, needs_image: bool = True) -> list[ManifestRow]:
    """Read the rows of a table."""
    body = text if isinstance(text, bytes) else text.encode()
    lines = lines_of(BytesIO(body))
    return list(number_rows(table_rows(lines, needs_image=needs_image), needs_image=needs_image))


def jsonl_rows(text: str) -> list[ManifestRow]:
    """Read the rows of JSON lines."""
    body = text.encode()
    return list(number_rows(json_rows(lines_of(BytesIO(body)))))


def errors_of(rows: list[ManifestRow]) -> list[tuple[int, int | None, str]]:
    """List line, column and code of every error."""
    return [(error.line, error.column, error.code) for row in rows for error in row.errors]


def test_a_shopify_export_is_one_row_for_each_product() -> None:
    """With its continuation rows; its image is the one in the first position, its id the first SKU."""
    rows = csv_rows(SHOPIFY)
    assert [(row.custom_id, row.image, row.line) for row in rows] == [
        ("MUG-7", "https://cdn.example/a.jpg", 2),
        ("tray", "https://cdn.example/t.jpg", 6),
    ]
    assert rows[0].cells["Body (HTML)"] == '<p>A "fine" mug,\r\nfor tea</p>'
    assert errors_of(rows) == []


def test_a_google_feed_is_read_with_its_tabs_and_dimensions() -> None:
    """Dimensions become metres."""
    (row,) = csv_rows(GOOGLE)
    assert (row.custom_id, row.image) == ("G-1", "https://cdn.example/m.jpg")
    assert row.dimensions == {"height": pytest.approx(0.095), "width": pytest.approx(0.0762)}


@pytest.mark.parametrize("header", ["sku;image", "SKU;Image URL", "Item ID;Picture", "g:id;g:image_link", "id;photo"])
def test_columns_are_known_by_many_names(header: str) -> None:
    """In any case, with spaces or a prefix, and with any delimiter."""
    (row,) = csv_rows(f"{header}\nA;https://x.example/a.png\n")
    assert (row.custom_id, row.image) == ("A", "https://x.example/a.png")


def test_parameters_are_columns() -> None:
    """By TRELLIS.2's own names; empty cells set nothing."""
    rows = csv_rows("sku,image,seed,preset,pipeline_type,remesh\nA,u,7,game,512,FALSE\nB,u,,,,\n")
    assert rows[0].parameters == {"seed": 7, "preset": "game", "pipeline_type": "512", "remesh": False}
    assert rows[1].parameters == {}


def test_a_line_that_is_not_csv_is_the_only_row_with_an_error() -> None:
    """An unclosed quote costs its own row, not the rest of the file."""
    rows = csv_rows('sku,image\nA,u\nB,"u\nC,u\nD,"u"x\nE,u\n')
    assert [row.custom_id for row in rows if not row.errors] == ["A", "C", "E"]
    assert errors_of(rows) == [(3, 1, "row_malformed"), (5, 1, "row_malformed")]


def test_a_line_that_is_not_utf8_says_which_column() -> None:
    """Counted in the line's text."""
    rows = csv_rows(b"sku,image\nA,u\nB\xe4,u\nC,u\n")
    assert [row.custom_id for row in rows if not row.errors] == ["A", "C"]
    assert errors_of(rows) == [(3, 2, "row_malformed")]


def test_a_row_with_too_many_cells_is_an_error_and_one_with_too_few_is_not() -> None:
    """Spreadsheets leave out empty cells at the end."""
    rows = csv_rows("sku,image,title\nA,u\nB,u,t,,x\n")
    assert errors_of(rows) == [(3, 5, "row_malformed")]


def test_ids_are_unique() -> None:
    """The second row with an id has an error; the first runs."""
    rows = csv_rows("title,sku,image\n,A,u\n,A,u\n,,u\n")
    assert [bool(row.errors) for row in rows] == [False, True, True]
    assert errors_of(rows) == [(3, 2, "id_duplicate"), (4, 2, "id_missing")]


def test_a_row_without_an_image_is_an_error_unless_images_were_uploaded() -> None:
    """Then the id may name its image."""
    text = "sku,image\nA,\n"
    assert errors_of(csv_rows(text)) == [(2, 2, "image_missing")]
    assert errors_of(csv_rows(text, needs_image=False)) == []


@pytest.mark.parametrize("text", ["", "title,image\nMug,u\n", "sku,title\nA,Mug\n"])
def test_a_table_without_ids_or_images_is_refused(text: str) -> None:
    """The error names the possible columns."""
    with pytest.raises(ParameterInvalid):
        csv_rows(text)


def test_json_lines_are_read_one_by_one() -> None:
    """A line that is not JSON is a row with an error at the column where it breaks."""
    rows = jsonl_rows(
        '{"id": "A", "image": "u", "seed": 7}\n\n{"id": "B", "image" "u"}\n["C"]\n{"sku": "D", "image": {"url": "v"}}\n'
    )
    assert [(row.custom_id, row.image) for row in rows if not row.errors] == [("A", "u"), ("D", "v")]
    assert rows[0].parameters == {"seed": 7}
    assert errors_of(rows) == [(3, 21, "row_malformed"), (4, 1, "row_malformed")]


RSS = """<?xml version="1.0" encoding="UTF-8"?>
<rss xmlns:g="http://base.google.com/ns/1.0" version="2.0"><channel>
<title>Shop</title>
<item>
  <g:id>G-1</g:id><title>A &amp; B</title>
  <g:image_link>https://cdn.example/a.jpg</g:image_link>
  <g:additional_image_link>https://cdn.example/b.jpg</g:additional_image_link>
  <g:shipping><g:price>5 EUR</g:price></g:shipping><g:product_height>10 cm</g:product_height><seed>7</seed>
</item>
<item><g:id>G-2</g:id><g:image_link><![CDATA[https://cdn.example/c.jpg?a=1&b=2]]></g:image_link></item>
<item><g:id>G-1</g:id><g:image_link>u</g:image_link></item>
</channel></rss>"""


def rows_of_xml(text: str) -> list[ManifestRow]:
    """Read the rows of an XML feed."""
    body = text.encode()
    return list(number_rows(xml_rows(BytesIO(body))))


def test_a_google_feed_may_be_xml() -> None:
    """RSS 2.0, with namespaces, nested elements and character data; lines count as in the other formats."""
    rows = rows_of_xml(RSS)
    assert [(row.line, row.custom_id, row.image) for row in rows] == [
        (4, "G-1", "https://cdn.example/a.jpg"),
        (10, "G-2", "https://cdn.example/c.jpg?a=1&b=2"),
        (11, "G-1", "u"),
    ]
    assert rows[0].cells["title"] == "A & B"
    assert rows[0].parameters == {"seed": 7}
    assert rows[0].dimensions == {"height": pytest.approx(0.1)}
    assert errors_of(rows) == [(11, None, "id_duplicate")]


def test_an_atom_feed_is_read_by_googles_ids() -> None:
    """Atom has another `id`."""
    entry = "<entry><g:id>A</g:id><id>tag:x</id><g:image_link>u</g:image_link></entry>"
    (row,) = rows_of_xml(f'<feed xmlns:g="http://base.google.com/ns/1.0">{entry}</feed>')
    assert row.custom_id == "A"


def test_xml_that_breaks_keeps_the_rows_before() -> None:
    """The error says where it breaks."""
    rows = rows_of_xml(RSS[: RSS.index("<item><g:id>G-2")] + "<item><g:id>G-3</g:oops>")
    assert [row.custom_id for row in rows if not row.errors] == ["G-1"]
    assert errors_of(rows) == [(10, 18, "row_malformed")]


def test_xml_that_declares_entities_is_refused() -> None:
    """No declared entity is expanded."""
    bomb = '<!DOCTYPE x [<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;">]>'
    with pytest.raises(ParameterInvalid):
        rows_of_xml(f"{bomb}<rss><item><id>&b;</id></item></rss>")


def test_a_line_without_end_is_cut() -> None:
    """Only its own row has an error, and it takes no memory."""
    long = "x" * (MAX_LINE_BYTES + 2 * WINDOW_BYTES)
    rows = jsonl_rows(f'{{"id": "A", "image": "u"}}\n{{"id": "{long}"}}\n{{"id": "B", "image": "u"}}\n')
    assert [row.custom_id for row in rows if not row.errors] == ["A", "B"]
    assert errors_of(rows) == [(2, 1, "row_malformed")]


def test_lines_do_not_depend_on_where_the_windows_end() -> None:
    """With CRLF and characters of several bytes across their ends."""
    body = ("é" * 100_003 + "\r\n").encode() * 20
    lines = list(lines_of(BytesIO(body)))
    assert [line.text for line in lines] == ["é" * 100_003 + "\r\n"] * 20


def test_images_are_found_by_path_by_file_name_and_by_stem() -> None:
    """The files that macOS adds to a zip are skipped."""
    body = zipped({"shots/MUG-7.png": b"1", "__MACOSX/MUG-7.png": b"2", "readme.txt": b"3", "shots/.x.png": b"4"})
    images = ImageArchive(BytesIO(body))
    for name in ("shots/MUG-7.png", "MUG-7.png", "MUG-7"):
        assert images.find(name) == "shots/MUG-7.png"
    assert images.find("readme") is None
    assert images.read("shots/MUG-7.png") == b"1"
    assert [(row.custom_id, row.image) for row in images.rows()] == [("MUG-7", "shots/MUG-7.png")]


def test_reading_the_same_bytes_again_gives_the_same_rows() -> None:
    """A planner that continues after another one's death relies on it."""
    lines = "".join(f"{json.dumps({'id': f'A{number}', 'image': 'u'})}\n" for number in range(50))
    assert jsonl_rows(lines) == jsonl_rows(lines)
