from kvmagent.tables import size_text, table


def test_columns_are_as_wide_as_their_content() -> None:
    assert table(("A", "B"), [("1", "x"), ("long", "y")], None) == "A     B\n1     x\nlong  y"


def test_what_does_not_fit_is_cut_visibly() -> None:
    assert table(("A",), [("abcdefgh",)], 5) == "A\nabcd…"


def test_what_a_device_calls_itself_cannot_drive_the_terminal() -> None:
    assert "\x1b" not in table(("A",), [("\x1b[31mred\n",)], None)


def test_no_rows_are_no_table() -> None:
    assert table(("A",), [], 80) == ""


def test_sizes_are_shown_in_the_largest_unit() -> None:
    shown = [size_text(size) for size in (0, 512, 2048, 256 * 2**30, 3 * 2**40)]
    assert shown == ["0 B", "512 B", "2.0 KiB", "256 GiB", "3.0 TiB"]
