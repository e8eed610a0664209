"""What the benchmarks inside torch programs share."""

import pytest

import packseq


@pytest.fixture
def one_thread():
    """One thread for both libraries, so that their ratio is that of their kernels."""
    import torch

    before = torch.get_num_threads(), packseq.get_num_threads()
    torch.set_num_threads(1)
    packseq.set_num_threads(1)
    yield
    torch.set_num_threads(before[0])
    packseq.set_num_threads(before[1])
