"""Process-wide state: the garbage collector is given back as it was found."""

from __future__ import annotations

import gc

import pytest

from flair import _runtime


@pytest.mark.parametrize("enabled", [True, False])
def test_the_collector_rests_inside_and_is_as_before_afterwards(enabled: bool) -> None:
    before = gc.isenabled()
    try:
        (gc.enable if enabled else gc.disable)()
        with _runtime.collector_paused():
            assert not gc.isenabled()
            with _runtime.collector_paused():
                assert not gc.isenabled()
            assert not gc.isenabled()
        assert gc.isenabled() is enabled
        with pytest.raises(KeyError), _runtime.collector_paused():
            raise KeyError("an error inside")
        assert gc.isenabled() is enabled
    finally:
        (gc.enable if before else gc.disable)()
