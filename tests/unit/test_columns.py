"""Tables of text that fit any terminal."""

from hypothesis import given
from hypothesis import strategies as st

from piwheels.cli.columns import WIDTH, in_columns, paragraph


def test_columns_are_aligned_and_numbers_stand_to_the_right():
    rows = [("name", "number"), ("a", "7"), ("longer", "12,345")]
    assert list(in_columns(rows, right={1})) == [
        "name    number",
        "a            7",
        "longer  12,345",
    ]


def test_a_broken_column_goes_on_below_and_leaves_the_others_empty():
    rows = [("a", "word " * 30, "end")]
    first, second, *_ = in_columns(rows, broken={1})
    assert first.startswith("a  word")
    assert first.endswith("end")
    assert second.startswith("   word")


@given(st.text(st.characters(categories=["L"]), max_size=300), st.text("ab ", max_size=400))
def test_a_broken_column_keeps_lines_within_the_width(word, sentence):
    lines = list(in_columns([("target", word + sentence), ("x", "y")], broken={1}))
    assert all(len(line) <= WIDTH for line in lines)
    told = "".join(line[8:] for line in lines[:-1])
    assert "".join(told.split()) == "".join((word + sentence).split())


def test_a_link_in_a_paragraph_stays_whole():
    link = "http://example/" + "x" * 200
    assert list(paragraph(f"see {link} there", "  ")) == ["  see", f"  {link}", "  there"]
