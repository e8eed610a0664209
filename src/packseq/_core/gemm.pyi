from types import ModuleType

MOST_INT: int

class Library:
    def __init__(self, module: ModuleType) -> None: ...
    @property
    def name(self) -> str: ...
