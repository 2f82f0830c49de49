"""A unit test imports no torch and starts no process: one that does fails here, and belongs in `tests/integration`."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

STARTS = {"subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec", "os.system"}
# What asks torch or git about this machine; unit tests plan for a CPU.
STAND_INS = {
    "resolve_device": lambda device, **_: "cpu" if device == "auto" else device,
    "resolve_precision": lambda precision, *_: "fp32" if precision == "auto" else precision,
}
HERE = Path(__file__).parent
running = False


def refuse_processes(event: str, arguments: tuple) -> None:
    if running and event in STARTS:
        pytest.fail(f"A unit test starts no process, this one called {event}{arguments[:2]}.")


class NoTorch:
    """Stands before the other finders of modules, and finds torch only outside unit tests."""

    @staticmethod
    def find_spec(name: str, path: object = None, target: object = None) -> None:
        if running and name == "torch":
            pytest.fail("A unit test imports no torch.")


sys.addaudithook(refuse_processes)
sys.meta_path.insert(0, NoTorch)


@contextmanager
def alone() -> Iterator[None]:
    global running
    # Not above, where xdist's controller would import both before it starts a worker.
    import datasets  # noqa: F401 - before a test does, because it looks for torch when it is imported
    from synthetic import environment

    stand_ins = STAND_INS | {"environment": environment}
    with pytest.MonkeyPatch.context() as patch:
        for name, module in list(sys.modules.items()):
            if name.startswith("lrtl_utils"):
                for attribute in stand_ins.keys() & vars(module).keys():
                    patch.setattr(module, attribute, stand_ins[attribute])
        running = True
        try:
            yield
        finally:
            running = False


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item: pytest.Item) -> Iterator[None]:
    if HERE not in item.path.parents:  # of another tier, in the same session
        return (yield)
    with alone():
        return (yield)


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector: pytest.Collector) -> Iterator[None]:
    if HERE not in collector.path.parents:
        return (yield)
    with alone():
        return (yield)
