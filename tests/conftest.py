"""Makes the shared helper modules of this directory importable, and both engines choosable."""

import gc
import signal
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.internal.conjecture import engine as conjecture

# `make test` gives the same answer twice; `make explore` (tools/explore.py) tries fresh seeds. No
# limit of time applies: a loaded machine is no fault of the tests.
BASE = settings(
    settings.get_profile("default"),
    deadline=None,
    suppress_health_check=[HealthCheck.too_slow],
    database=None,
    phases=(Phase.explicit, Phase.generate, Phase.target, Phase.shrink),
    print_blob=True,
)
settings.register_profile("test", BASE, derandomize=True)
settings.register_profile("explore", BASE, derandomize=False)
settings.load_profile("test")

# Hypothesis looks for a smaller example for up to five minutes, and has no setting for that. Walks
# with real daemons would take all of them; a failure is better told soon.
conjecture.MAX_SHRINKING_SECONDS = 10

sys.path.insert(0, str(Path(__file__).parent))

from browser import browser  # noqa: E402, F401  (a fixture: one for all tests of a session)

#: What rich and click make of a terminal depends on these beside TERM.
OF_TERMINALS = (
    *("NO_COLOR", "FORCE_COLOR", "CLICOLOR", "CLICOLOR_FORCE", "COLORTERM"),
    *("TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS", "LINES"),
)

NO_NUMBA = pytest.mark.skipif(
    find_spec("numba") is None, reason="numba is not installed: no fast engine"
)


def pytest_configure(config: pytest.Config) -> None:
    """Each of several processes begins to collect at another folder: what one has compiled is ready
    when the others come there."""
    worker = getattr(config, "workerinput", None)  # of pytest-xdist
    if worker and config.args_source is pytest.Config.ArgsSource.TESTPATHS:
        folders = sorted({path.parent for path in Path(__file__).parent.glob("*/test_*.py")})
        first = len(folders) * int(worker["workerid"].removeprefix("gw")) // worker["workercount"]
        config.args = [str(folder) for folder in folders[first:] + folders[:first]]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """The order of tests is the same in all processes."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: item.path)


def pytest_collection_finish() -> None:
    """What was imported and collected is there until the end: the garbage collector does not look
    through it again and again, and at what a test makes less often than after each 700 objects."""
    gc.collect()
    gc.freeze()
    gc.set_threshold(20_000, 20, 50)


@pytest.fixture(scope="session", autouse=True)
def _ordinary_environment() -> Iterator[None]:
    """Whatever the tests were started from, rich sees the same terminal; processes that are started
    run plain kernels, as tests do, and heed SIGINT, which a shell lets its background jobs ignore.
    """
    from xennet.engine.choice import VARIABLE

    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(VARIABLE, "plain")
        patch.setenv("TERM", "xterm-256color")
        for name in OF_TERMINALS:
            patch.delenv(name, raising=False)
        yield


@pytest.fixture
def sharing() -> None:
    """Skips the test where memory cannot be shared with other processes."""
    from xennet.engine.atomics import AtomicsError, of_processes

    try:
        of_processes()
    except AtomicsError as error:
        pytest.skip(str(error))


@pytest.fixture(
    params=[
        "plain",
        pytest.param("fast", marks=NO_NUMBA),
    ]
)
def engine(request: pytest.FixtureRequest) -> Iterator[str]:
    """The test runs once with each engine."""
    from xennet.engine.choice import using

    with using(request.param):
        yield request.param


@pytest.fixture(autouse=True)
def _plain_unless_asked(request: pytest.FixtureRequest) -> Iterator[None]:
    """Tests run plain kernels, which need no compiling, unless they take the engine fixture."""
    from xennet.engine.choice import using

    if "engine" in request.fixturenames:
        yield
    else:
        with using("plain"):
            yield
