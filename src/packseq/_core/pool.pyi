from typing import final

MOST_THREADS: int

@final
class Pool:
    patience: int | None
    @property
    def rounds(self) -> int: ...
    def borrow(self) -> bool: ...
    def put_back(self) -> None: ...
