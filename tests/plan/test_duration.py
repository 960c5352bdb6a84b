import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volseg.errors import ConfigError
from volseg.plan.duration import parse_duration, readable_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("2h", 7200), ("90m", 5400), ("90min", 5400), ("1h30m", 5400), ("45s", 45), ("1.5H", 5400),
     (" 1h 2m 3s ", 3723), ("0h10m", 600)],
)  # fmt: skip
def test_durations(text, seconds):
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "2", "h", "30m1h", "-2h", "1d", "0s", "two hours", "1,5h"])
def test_what_is_no_duration_is_told(text):
    with pytest.raises(ConfigError, match="1h30m"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(9000, "2.5 h"), (3600, "60 min"), (720, "12 min"), (85, "85 s"), (0.8, "0.8 s"), (0.0312, "0.031 s")],
)
def test_readable(seconds, text):
    assert readable_duration(seconds) == text


@settings(max_examples=50, deadline=None)
@given(st.floats(0.1, 1e6))
def test_what_is_written_reads_the_same_to_three_digits(seconds):
    assert parse_duration(readable_duration(seconds)) == pytest.approx(seconds, rel=0.051)
