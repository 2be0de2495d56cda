"""Torch's threads are changed only for a while."""

import pytest
import torch

from unetpipe.torch_threads import torch_threads


@pytest.mark.parametrize(("wanted", "given"), [(3, 3), (1, 1), (0, 1)])
def test_threads_are_put_back_after_an_error(wanted: int, given: int) -> None:
    """Inside there are as many as asked for, never none; afterwards as many as before, whatever happens inside."""

    def fail() -> None:
        with torch_threads(wanted):
            inside.append(torch.get_num_threads())
            raise ValueError("inside")

    before, inside = torch.get_num_threads(), list[int]()
    with pytest.raises(ValueError, match="inside"):
        fail()
    assert (inside, torch.get_num_threads()) == ([given], before)
