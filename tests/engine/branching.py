"""Functions with every kind of branch, for tests of counters."""

from __future__ import annotations

from xennet.engine.kernel import U32Array, Vector

LIMIT = 10


def kinds(words: U32Array, res: Vector) -> int:
    """A kernel."""
    total = 0
    for i in range(len(words)):
        word = words[i]
        if word > LIMIT:
            total += called(word, i)
        elif (word == 7 and i < 2) or word == 9:
            total -= 1
        total += 100 if word != 3 else 1000
        while word:
            word >>= 1
            res[0] += 1
    return total


def called(word: int, i: int) -> int:
    if word >= 1 << 20:
        return word <= i
    return 2


class Methods:
    def __init__(self, limit: int = LIMIT) -> None:
        self.limit = limit

    @property
    def small(self) -> bool:
        return self.limit < 3

    def judge(self, value: object, *, strict: bool = True) -> str:
        """Every statement that kernels do not have."""
        try:
            match value:
                case int() if value == 5 or strict:
                    return "number" if value else "nothing"
                case str():
                    return value[self.limit]
        except IndexError:
            return "short"
        return ", ".join(sorted(str(each) for each in (1, 2) if each > 1))
