"""A fuzz target of xennet for atheris, and so for libFuzzer: the target named TARGET.

fuzz/write_harnesses.py makes one such file for each target, as OSS-Fuzz expects it. By hand:

    python fuzz/harness.py CORPUS -max_len=4224

An input is raw bytes, the sections of the target's inputs end to end; a page alone is one. A
target of ring pages has 4224 bytes; less cuts off what lies behind the page.
Mutations know what a page is made of; libFuzzer's own take turns with them.
"""

import gc
import os
import sys
from random import Random
from types import FunctionType

import atheris

TARGET = "tx"
#: Rules that are known: their findings are none, whatever else is one.
KNOWN = frozenset()

# Compiled kernels could not be instrumented.
os.environ["XENNET_ENGINE"] = "plain"

from xennet.fuzz.fuzz_input import from_raw, to_raw  # noqa: E402
from xennet.fuzz.target_table import open_target  # noqa: E402

#: Parts of the package that lie around a target; their branches say nothing about it.
AROUND = ("xennet.fuzz", "xennet.engine", "xennet.abi", "xennet.lazy", "xennet.moved")


class FindingError(Exception):
    """What an execution did that should not be."""


def instrument():
    """Instrument all functions of the package: also copies that were made while the target was
    opened, which no import hook sees. Returns how many."""
    functions = [
        each
        for each in gc.get_objects()
        if isinstance(each, FunctionType)
        and (each.__module__ or "").startswith("xennet.")
        and not each.__module__.startswith(AROUND)
    ]
    for function in functions:
        atheris.instrument_func(function)
    return len(functions)


def main():
    target = open_target(TARGET, KNOWN)
    sections = target.sections
    whole = sum(section.size for section in sections)

    def read(data):
        return from_raw(target.name, sections, data[:whole])

    def execute(data):
        finding = target.execute(read(data))
        if finding is not None and not finding.known(KNOWN):
            raise FindingError(f"{finding.rule}: {finding.where}")

    def mutate(data, max_size, seed):
        random = Random(seed)
        if random.randrange(4) == 0:
            return atheris.Mutate(data, max_size)
        fuzz_input = target.start(random) if not data else read(data)
        mutated = target.mutate(fuzz_input, random, target.start(random))
        return to_raw(sections, mutated)[:max_size]

    print(f"{TARGET}: {instrument()} functions are instrumented", file=sys.stderr)
    atheris.Setup(sys.argv, execute, custom_mutator=mutate)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
