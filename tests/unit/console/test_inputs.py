"""The readers: real places of rows, and files that are not what they seem."""

from __future__ import annotations

import csv
import io
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from tierq_console.inputs import Broken, Row, open_source
from tierq_shared.errors import InvalidInput


def rows(path: Path) -> list[Row | Broken]:
    return list(open_source(path).rows())


def written(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


class TestCsv:
    def test_rows_by_the_columns_of_the_header(self, tmp_path: Path) -> None:
        found = rows(written(tmp_path, "a.csv", "id,body\n1,hello\n2,bye\n"))
        assert found == [Row(2, {"id": "1", "body": "hello"}), Row(3, {"id": "2", "body": "bye"})]

    def test_a_quoted_field_may_hold_newlines_and_the_row_stands_where_it_begins(self, tmp_path: Path) -> None:
        found = rows(written(tmp_path, "a.csv", '"id","the\nbody"\r\n1,"one\ntwo\nthree"\r\n\r\n2,x\r\n'))
        assert [row.line for row in found] == [3, 7]
        assert isinstance(found[0], Row)
        assert found[0].values == {"id": "1", "the\nbody": "one\ntwo\nthree"}

    fields = st.text(st.sampled_from('ab ,;"\n\r\tü\u2028\x0b\x0c\x85'), max_size=6)

    @given(st.lists(st.tuples(fields, fields), min_size=1, max_size=8), st.sampled_from(["\n", "\r\n"]), st.booleans())
    @settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
    def test_each_row_stands_on_the_line_where_an_editor_finds_it(
        self, tmp_path: Path, table: list[tuple[str, str]], end: str, bom: bool
    ) -> None:
        buffer = io.StringIO()
        writer = csv.writer(buffer, quoting=csv.QUOTE_ALL, lineterminator=end)
        writer.writerow(["first", "second"])
        lines = []
        for row in table:
            lines.append(len(buffer.getvalue().replace("\r\n", "\n").replace("\r", "\n").split("\n")))
            writer.writerow(row)
        content = ("\ufeff" if bom else "") + buffer.getvalue()

        found = rows(written(tmp_path, "a.csv", content))

        assert found == [
            Row(line, {"first": first, "second": second}) for line, (first, second) in zip(lines, table, strict=True)
        ]

    @pytest.mark.parametrize(
        ("name", "content"),
        [("a.csv", "id;body\n1;x, y\n"), ("a.csv", "id\tbody\n1\tx, y\n"), ("a.tsv", "id\tbody\n1\tx, y\n"),
         ("a.csv", '"id";"bo,dy"\n1;"x, y"\n')],
    )  # fmt: skip
    def test_the_header_says_what_the_delimiter_is(self, tmp_path: Path, name: str, content: str) -> None:
        (row,) = rows(written(tmp_path, name, content))
        assert isinstance(row, Row)
        assert list(row.values.values()) == ["1", "x, y"]

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            ("1,2,3", "has 3 fields, the header has 2: quote a field that holds the delimiter"),
            ("1", "has 1 field, the header has 2: give every column a field"),
            ('1,"a" b', "broken CSV (',' expected after '\"'): write a quote inside a quoted field as \"\""),
        ],
    )
    def test_a_row_that_is_broken_is_told_and_the_next_one_is_read(
        self, tmp_path: Path, line: str, reason: str
    ) -> None:
        broken, good = rows(written(tmp_path, "a.csv", f"id,body\n{line}\n2,fine\n"))
        assert isinstance(broken, Broken)
        assert broken.line == 2
        assert reason in broken.reason
        assert broken.raw == line
        assert good == Row(3, {"id": "2", "body": "fine"})

    def test_a_quote_that_is_never_closed_ends_the_reading_with_its_line(self, tmp_path: Path) -> None:
        path = written(tmp_path, "a.csv", 'id,body\n1,fine\n2,"open\n3,lost\n')
        with pytest.raises(InvalidInput, match=r"a\.csv:3: a quote opens in this row and is not closed"):
            rows(path)

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ("\n\n", "has no header"),
            ("id,body,id\n1,2,3\n", "two columns are named 'id'"),
            ('id,"body\n1,2', "the header is broken CSV"),
        ],
    )
    def test_a_header_that_names_no_columns_is_refused(self, tmp_path: Path, content: str, reason: str) -> None:
        with pytest.raises(InvalidInput, match=reason):
            rows(written(tmp_path, "a.csv", content))

    def test_a_missing_column_is_refused_with_the_one_that_was_meant(self, tmp_path: Path) -> None:
        source = open_source(written(tmp_path, "a.csv", "id,body\n1,x\n"))
        with pytest.raises(InvalidInput, match=r"no column 'bdy' \(did you mean 'body'\?\); the columns are id, body"):
            source.require_columns({"--text": "bdy"})

    def test_reading_twice_gives_the_same(self, tmp_path: Path) -> None:
        source = open_source(written(tmp_path, "a.csv", "id\n1\n2\n"))
        assert list(source.rows()) == list(source.rows())


class TestJsonl:
    def test_one_object_a_line_blank_lines_and_a_byte_order_mark_aside(self, tmp_path: Path) -> None:
        found = rows(written(tmp_path, "a.jsonl", '\ufeff{"a": 1}\n\n{"a": "\\u00fc"}'))
        assert found == [Row(1, {"a": 1}), Row(3, {"a": "ü"})]

    @pytest.mark.parametrize(
        ("line", "reason"),
        [
            (b'{"a": 1', "is broken JSON"),
            (b"17", "is a JSON int, not an object"),
            (b'{"a": "\xe9"}', "byte 0xe9 at 7 is not UTF-8"),
            (b'{"a": "\\ud800"}', "holds a lone surrogate"),
            (b'{"a": NaN}', "is broken JSON"),
        ],
    )
    def test_a_line_that_is_broken_is_told_and_the_next_one_is_read(
        self, tmp_path: Path, line: bytes, reason: str
    ) -> None:
        broken, good = rows(written(tmp_path, "a.jsonl", line + b'\n{"a": 2}\n'))
        assert isinstance(broken, Broken)
        assert broken.line == 1
        assert reason in broken.reason
        assert good == Row(2, {"a": 2})

    def test_one_array_is_refused_with_the_way_to_lines(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match="one JSON array; write one object a line"):
            open_source(written(tmp_path, "a.json", '\n [{"a": 1}]'))


class TestParquet:
    def test_rows_are_counted_from_one(self, tmp_path: Path) -> None:
        parquet.write_table(pa.table({"id": [7, 8], "body": ["x", None]}), tmp_path / "a.parquet")
        source = open_source(tmp_path / "a.parquet")
        assert list(source.rows()) == [Row(1, {"id": 7, "body": "x"}), Row(2, {"id": 8, "body": None})]
        assert source.unit == "row"
        assert source.columns == ["id", "body"]

    def test_what_is_no_parquet_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(InvalidInput, match="is no Parquet file that can be read"):
            open_source(written(tmp_path, "a.parquet", "id,body"))


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", b"", "is empty"),
        ("a.jsonl", b"", "is empty"),
        ("a.csv", b"PK\x03\x04....", "Excel workbook: save the sheet as CSV"),
        ("a.csv", b"\x1f\x8b\x08", "is gzip-compressed"),
        ("a.csv", "id,body\n".encode("utf-16"), "is UTF-16 text: save it as UTF-8"),
        ("a.csv", b"PAR1", "is a Parquet file: name it a.parquet"),
        ("a.xlsx", b"PK", r"\.xlsx is not read here; use \.csv"),
        ("a", b"x", "a file without suffix is not read here"),
    ],
)
def test_what_only_looks_like_an_input_is_refused(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    with pytest.raises(InvalidInput, match=reason):
        open_source(written(tmp_path, name, content))
