"""Numbers as people read them, on both sides of each change of unit."""

from search.verdict.quantities import counted, duration, size


def test_times_sizes_and_counts_change_their_unit_where_they_should() -> None:
    times = {None: "?", 0.4: "0 s", 59.4: "59 s", 59.6: "1 min 0 s", 3599.4: "59 min 59 s", 3600: "1 h 0 min",
             3661: "1 h 1 min", 7259: "2 h 0 min", 7260: "2 h 1 min", 90_061: "25 h 1 min"}  # fmt: skip
    assert {seconds: duration(seconds) for seconds in times} == times
    sizes = {1: "1 kB", 1_499: "1 kB", 1_501: "2 kB", 999_999: "1000 kB", 1_000_000: "1.0 MB", 2_449_000: "2.4 MB"}
    assert {number: size(number) for number in sizes} == sizes
    assert [counted(number, "trial") for number in (0, 1, 2)] == ["0 trials", "1 trial", "2 trials"]
