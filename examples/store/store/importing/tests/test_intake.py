from __future__ import annotations

import csv
import gzip
import io
from datetime import date
from decimal import Decimal
from pathlib import Path

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from store.importing.intake import Intake, take_in
from store.importing.lines import COLUMNS, NotSuchAFileError, Reason
from store.importing.reading import LONGEST_LINE_BYTES, Record, open_bytes, read_records
from store.importing.refused import RefusedFile, draft_of, place_for_refused

HEADER = ",".join(COLUMNS)
LINE = "536365,85123A,WHITE HEART,6,12/1/2010 8:26,2.55,17850,United Kingdom"
REAL = Path(__file__).parents[6] / "shared" / "data" / "online_retail.csv.gz"


def take(content: bytes | str) -> tuple[Intake, list[tuple[int, str]]]:
    raw = content.encode() if isinstance(content, str) else content
    refused: list[tuple[int, str]] = []

    def refuse(record: Record, reason: Reason) -> None:
        refused.append((record.line, reason.value))

    intake = take_in(read_records(io.BytesIO(raw)), lambda _: refuse)
    return intake, refused


def gzip_take(path: Path) -> Intake:
    with open_bytes(path) as stream:
        return take_in(read_records(stream), lambda _: lambda *_: None)


def test_an_invoice_is_made_of_its_taken_lines_wherever_they_stand() -> None:
    other = LINE.replace("536365", "536366")
    intake, refused = take("\n".join([HEADER, LINE, other, LINE.replace("85123A", "71053")]))
    assert [(i.number, [line.sku for line in i.lines]) for i in intake.invoices] == [
        ("536365", ["85123A", "71053"]),
        ("536366", ["85123A"]),
    ]
    assert refused == []


def test_one_product_twice_at_two_prices_keeps_the_exact_total() -> None:
    intake, _ = take("\n".join([HEADER, LINE, LINE.replace("2.55", "1.01")]))
    assert intake.invoices[0].total.amount == Decimal("21.36")
    assert [p.price.amount for p in intake.products] == [Decimal("2.55")]


def test_a_line_for_another_customer_than_its_invoice_is_refused() -> None:
    intake, refused = take("\n".join([HEADER, LINE, LINE.replace("17850", "99999")]))
    assert (intake.taken, refused) == (1, [(3, "unreadable")])


def test_an_invoice_keeps_the_time_of_its_first_line() -> None:
    intake, _ = take("\n".join([HEADER, LINE, LINE.replace("8:26", "8:27")]))
    assert intake.invoices[0].placed_at.minute == 26
    assert intake.taken == 2


def test_a_product_that_only_refused_lines_name_is_not_added() -> None:
    intake, _ = take("\n".join([HEADER, LINE, LINE.replace("85123A", "X").replace(",6,", ",0,")]))
    assert [product.sku for product in intake.products] == ["85123A"]


def test_an_invoice_with_more_lines_than_an_order_can_have_is_refused_whole() -> None:
    intake, refused = take("\n".join([HEADER, *[LINE] * 2001, LINE.replace("536365", "1")]))
    assert (intake.taken, len(refused), len(intake.invoices)) == (1, 2001, 1)


def test_an_invoice_worth_more_than_money_can_say_is_refused_whole() -> None:
    dear = LINE.replace(",6,", ",1000000,").replace("2.55", "10000000.00")
    intake, refused = take("\n".join([HEADER, *[dear] * 200, LINE.replace("536365", "1")]))
    assert (intake.taken, len(refused), len(intake.invoices)) == (1, 200, 1)
    assert {reason for _, reason in refused} == {"unreadable"}


def test_a_quoted_field_may_hold_commas_quotes_and_line_ends() -> None:
    quoted = LINE.replace("WHITE HEART", '"12"" HEART, WHITE"')
    intake, refused = take(f"{HEADER}\r\n{quoted}\r\n{LINE}\r\n")
    assert intake.products[0].name == '12" HEART, WHITE'
    spanning = LINE.replace("WHITE HEART", '"WHITE\nHEART"')
    intake, refused = take(f"{HEADER}\n{spanning}\n{LINE}")
    # A name on two lines is no name that the store allows; the next line is read all the same.
    assert (intake.lines, intake.taken, refused) == (2, 1, [(2, "unreadable")])


def test_a_stray_quote_costs_its_own_line_only() -> None:
    stray = LINE.replace("WHITE HEART", '"WHITE HEART')
    intake, refused = take("\n".join([HEADER, stray, *[LINE] * 100]))
    assert (intake.lines, intake.taken, refused) == (101, 100, [(2, "unreadable")])


def test_bytes_that_are_not_utf8_are_replaced_and_the_line_taken() -> None:
    raw = f"{HEADER}\n{LINE}".encode().replace(b"WHITE", b"\xa3\xff")
    intake, _ = take(raw)
    assert intake.products[0].name == "�� HEART"


def test_a_byte_order_mark_blank_lines_and_windows_line_ends_are_no_trouble() -> None:
    intake, refused = take(b"\xef\xbb\xbf" + f"{HEADER}\r\n\r\n{LINE}\r\n\r\n".encode())
    assert (intake.lines, intake.taken, refused) == (1, 1, [])


def test_an_overlong_line_is_refused_without_being_held() -> None:
    long = LINE.replace("WHITE HEART", "x" * (LONGEST_LINE_BYTES * 3))
    intake, refused = take(f"{HEADER}\n{long}\n{LINE}")
    assert (intake.lines, intake.taken, refused) == (2, 1, [(2, "unreadable")])


@pytest.mark.parametrize("content", [b"", b"\n\n", b"hello", b"\x1f\x8b", b"a;b\n", b'"'])
def test_any_other_file_is_refused(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file.csv"
    path.write_bytes(content)
    with pytest.raises(NotSuchAFileError):
        gzip_take(path)


@pytest.mark.parametrize("encoding", ["utf-16", "utf-16-le", "utf-16-be", "utf-32"])
def test_a_file_in_utf16_is_refused_by_that_name(encoding: str) -> None:
    with pytest.raises(NotSuchAFileError, match="Save it again as CSV in UTF-8") as refused:
        take(f"{HEADER}\n{LINE}\n".encode(encoding))
    assert "\x00" not in str(refused.value)
    assert "\\x00" not in str(refused.value)


def test_a_truncated_gzip_gives_what_came_before_and_not_half_an_invoice(tmp_path: Path) -> None:
    lines = [LINE.replace("536365", str(500000 + n // 3)) for n in range(3000)]
    whole = gzip.compress("\n".join([HEADER, *lines]).encode())
    path = tmp_path / "cut.csv.gz"
    path.write_bytes(whole[: len(whole) // 2])
    intake = gzip_take(path)
    assert intake.damage is not None
    assert "breaks off" in intake.damage
    assert 0 < intake.taken < 3000
    assert all(len(invoice.lines) == 3 for invoice in intake.invoices)
    assert intake.lines == intake.taken + sum(intake.refused.values())


def test_a_corrupt_gzip_is_reported(tmp_path: Path) -> None:
    body = bytearray(gzip.compress("\n".join([HEADER, *[LINE] * 500]).encode()))
    body[-6] ^= 0xFF
    path = tmp_path / "corrupt.csv.gz"
    path.write_bytes(bytes(body))
    assert gzip_take(path).damage is not None


@settings(max_examples=300)
@given(st.binary(max_size=400) | st.text('",\n\r\x00a1./: C-', max_size=200).map(str.encode))
@example(b'"\n"')
@example(b"\x00,\xff\n" * 20)
def test_any_bytes_are_read_and_every_line_is_counted(content: bytes) -> None:
    intake, refused = take(f"{HEADER}\n{LINE}\n".encode() + content)
    assert intake.lines == intake.taken + sum(intake.refused.values())
    assert len(refused) == sum(intake.refused.values())
    assert len({line for line, _ in refused}) == len(refused)
    assert intake.taken >= 1


def test_refused_lines_are_written_whole_with_the_original(tmp_path: Path) -> None:
    source = io.BytesIO(f"{HEADER}\nC{LINE}\nonly,two\n".encode())
    path = tmp_path / "refused.csv"
    with RefusedFile(path) as file:

        def begin(header: list[str]):  # type: ignore[no-untyped-def]
            file.begin(header)
            return file.write

        take_in(read_records(source), begin)
        assert not path.exists()
    rows = list(csv.reader(path.read_text().splitlines()))
    assert rows[0] == ["line", "reason", *COLUMNS]
    assert rows[1] == ["2", "cancelled", *f"C{LINE}".split(",")]
    assert rows[2][:3] == ["3", "unreadable", "only,two"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_failed_reading_leaves_no_file_of_refused_lines(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError), RefusedFile(tmp_path / "refused.csv"):
        raise RuntimeError
    assert list(tmp_path.iterdir()) == []


def test_two_at_once_do_not_write_one_file_of_refused_lines(tmp_path: Path) -> None:
    path = tmp_path / "refused.csv"
    with RefusedFile(path) as first:
        first.begin(["A"])
        with pytest.raises(BlockingIOError):
            RefusedFile(path)
    assert path.read_bytes() == b"line,reason,A\r\n"
    with RefusedFile(path) as second:
        second.begin(["B"])
    assert path.read_bytes() == b"line,reason,B\r\n"
    assert list(tmp_path.iterdir()) == [path]


def test_a_draft_that_a_killed_run_left_is_begun_anew(tmp_path: Path) -> None:
    draft_of(tmp_path / "refused.csv").write_text("x" * 1_000)
    with RefusedFile(tmp_path / "refused.csv") as file:
        file.begin(["A"])
    assert (tmp_path / "refused.csv").read_bytes() == b"line,reason,A\r\n"


def test_a_draft_that_is_a_link_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("precious")
    draft_of(tmp_path / "refused.csv").symlink_to(tmp_path / "mine")
    with pytest.raises(OSError, match="symbolic links"):
        RefusedFile(tmp_path / "refused.csv")
    assert (tmp_path / "mine").read_text() == "precious"


def test_a_folder_that_nobody_may_write_into_is_left_alone(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    try:
        assert place_for_refused(tmp_path / "a.csv.gz") == Path("a.refused.csv")
    finally:
        tmp_path.chmod(0o755)
    assert place_for_refused(tmp_path / "a.csv.gz") == tmp_path / "a.refused.csv"


@pytest.fixture(scope="module")
def real() -> Intake:
    if not REAL.exists():
        pytest.skip(f"REAL DATA NOT FOUND: put the Online Retail extract at {REAL}")
    return gzip_take(REAL)


def test_the_real_file_gives_the_known_totals(real: Intake) -> None:
    assert (real.lines, real.taken, len(real.invoices)) == (50_062, 31_296, 1_621)
    assert real.refused == {
        "cancelled": 923,
        "no_description": 142,
        "bad_quantity": 11,
        "bad_price": 144,
        "no_customer": 17_546,
        "unreadable": 0,
    }
    assert sum(invoice.total.amount for invoice in real.invoices) == Decimal("686245.54")


def test_the_real_file_gives_the_same_days_as_a_plain_reading(real: Intake) -> None:
    plain: dict[str, Decimal] = {}
    with gzip.open(REAL, "rt", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            taken = (
                not row["InvoiceNo"].startswith("C")
                and row["Description"].strip()
                and int(row["Quantity"]) > 0
                and Decimal(row["UnitPrice"]) > 0
                and row["CustomerID"].strip()
            )
            if taken:
                month, day, year = row["InvoiceDate"].split()[0].split("/")
                key = date(int(year), int(month), int(day)).isoformat()
                amount = int(row["Quantity"]) * Decimal(row["UnitPrice"])
                plain[key] = plain.get(key, Decimal(0)) + amount
    ours: dict[str, Decimal] = {}
    for invoice in real.invoices:
        key = invoice.placed_at.date().isoformat()
        ours[key] = ours.get(key, Decimal(0)) + invoice.total.amount
    assert ours == plain
