"""The one exception of a checkpoint that cannot be used."""

import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager

# Whose code may run in a call into a format's library: packages, beside Python's own modules.
LIBRARIES = {"packseq", "numpy", "onnx", "google", "ml_dtypes"} | sys.stdlib_module_names

# Libraries quote what is wrong, of which a file may have any length.
MAX_QUOTED = 200


class CheckpointError(ValueError):
    """A checkpoint is broken, hostile, or holds what packseq cannot run.

    The message names the file, the place in it, what is there and what was expected.

    Examples
    --------
    >>> from pathlib import Path
    >>> _ = Path("model.safetensors").write_bytes(b"no weights")
    >>> try:
    ...     packseq.load("model.safetensors")
    ... except packseq.weights.CheckpointError as error:
    ...     print(str(error).partition(",")[0])
    model.safetensors: begins with b'no weights'
    """


class CheckpointWarning(UserWarning):
    """A checkpoint says what its writer is known to have said wrongly.

    The message names the module, what the file says and the argument that says otherwise.

    Examples
    --------
    >>> import warnings
    >>> with warnings.catch_warnings():
    ...     warnings.simplefilter("error", packseq.weights.CheckpointWarning)
    ...     packseq.save(packseq.GRU(3, 2, rng=0), "gru.safetensors")
    ...     gru = packseq.load("gru.safetensors")  # an ambiguous file would be an error here
    """


@contextmanager
def library_errors(what: str) -> Iterator[None]:
    """Turn what a format's own library raises into a CheckpointError.

    Meant to enclose calls into such a library and nothing else. Those libraries document no closed
    set of exceptions for malformed bytes, hence ``Exception``. An ImportError, which says what to
    install, passes, and so do a MemoryError and what is the program's own.
    """
    try:
        yield
    except (CheckpointError, ImportError, MemoryError):
        raise
    except Exception as error:
        if is_the_programs(error):
            raise
        quoted = str(error)[:MAX_QUOTED]
        raise CheckpointError(f"{what}: {type(error).__name__}: {quoted}") from error


def is_the_programs(error: Exception) -> bool:
    """Whether an exception comes from elsewhere, as from a signal handler that ran meanwhile.

    A library's is of a class of its own or of Python's, and all code that it came through is too.
    What is thrown into a thread without code of its own, and is of a class of Python's, is not told
    apart.
    """
    frames = (frame for frame, _ in traceback.walk_tb(error.__traceback__))
    modules = [type(error).__module__, *(str(f.f_globals.get("__name__")) for f in frames)]
    return any(module.partition(".")[0] not in LIBRARIES for module in modules)
