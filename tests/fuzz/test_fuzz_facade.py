"""Calls made from byte strings: right, or refused; repeatable, as `make fuzz` is not."""

from facade import check_facade
from hypothesis import given, settings
from hypothesis import strategies as st


@settings(max_examples=600)
@given(st.binary(min_size=60, max_size=140))
def test_calls_are_right_or_refused(data):
    check_facade(data)
