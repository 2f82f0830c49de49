"""What a run costs: device seconds, GPU hours, FLOPs, peak memory, energy."""

import contextlib
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

from lrtl_utils.measure.flops import Shape
from lrtl_utils.measure.memory import give_back

Tally = Counter[tuple[str, Shape]]
SAMPLE_EVERY = 0.02  # seconds between two looks at resident memory
MIB = 2**20
CLOSED_FORM = "closed form"  # the phase of what is done outside torch


class CostMeter:
    """The clock, the memory gauge and the FLOP tally of one run.

    Work is tallied on the clock as (phase, shape) and counted after it: each distinct shape once, by the counter of
    its phase, times how often it came. So counting costs the run nothing and changes none of its numbers; only where
    the price of a rung decides does `priced` count on the clock.

    A run that was interrupted and does work again has spent it twice, so its seconds and its FLOPs both count it twice.
    The points of its curve have the FLOPs of the run without interruptions, because decisions rest on those. The work
    between the last checkpoint and the interruption is not recorded anywhere, so neither sum includes it.
    """

    def __init__(self, device: str = "cpu"):
        self.device = device
        self.device_seconds = 0.0
        self.peak_memory_mib = 0.0
        self.energy_wh: float | None = None
        self.cached_seconds = 0.0  # of device_seconds, those in which an earlier run did what this one took from it
        self._resumed = {"device_seconds": 0.0, "cached_seconds": 0.0, "energy_wh": 0.0}  # of checkpoints
        self._started: float | None = None
        self._gauges: tuple[_PeakMemory, int | None] | None = None  # memory, and the energy counter at the start
        self._tally: Tally = Counter()  # of the run as it would be without interruptions
        self._spent: Tally = Counter()  # with all that was done again
        self._resumed_spent: Tally = Counter()
        self._counters: dict[str, Callable[[Shape], int]] = {CLOSED_FORM: lambda _shape: 1}
        self._counted: dict[tuple[str, Shape], int] = {}

    @contextlib.contextmanager
    def measure(self) -> Iterator[None]:
        """Run the clock over the block, with the device synchronised at both ends; only `aside` pauses it."""
        _synchronize(self.device)
        energy = _energy_mj(self.device)
        with _PeakMemory(self.device) as memory:
            self._started, self._gauges = time.perf_counter(), (memory, energy)
            try:
                yield
                _synchronize(self.device)
            finally:
                self.device_seconds, self._started = self.seconds(), None
                self.peak_memory_mib, self.energy_wh, self._gauges = self.peak(), self.energy(), None

    @contextlib.contextmanager
    def aside(self) -> Iterator[float]:
        """What is done in the block for other runs of a sweep is not on the clock. Gives the device seconds until here.

        On a CPU it is not in the peak of memory either; a GPU's memory and energy go on counting.
        """
        if self._started is None:
            yield self.device_seconds
            return
        _synchronize(self.device)
        began, memory = time.perf_counter(), self._gauges[0]
        memory.paused = True
        try:
            yield self.device_seconds + began - self._started
        finally:
            if self.device == "cpu":
                give_back()  # else what was freed here would stay resident, and count
            memory.paused = False
            self._started += time.perf_counter() - began

    def take(self, seconds: float, peak_memory_mib: float, energy_wh: float | None) -> None:
        """Add the cost of work that an earlier run did and this run reuses, so that it costs what it would cost alone.

        In seconds, MiB and Wh (None: not reported). Of the two peaks of memory, the higher one counts.
        """
        self.device_seconds += seconds
        self.cached_seconds += seconds
        self.peak_memory_mib = max(self.peak_memory_mib, peak_memory_mib)
        if energy_wh is not None:
            self.energy_wh = (self.energy_wh or 0.0) + energy_wh

    def clocked(self) -> float:
        """The seconds that the clock of this process ran."""
        cached = self.cached_seconds - self._resumed["cached_seconds"]
        return self.device_seconds - self._resumed["device_seconds"] - cached

    def seconds(self) -> float:
        """Device seconds so far, the running block included."""
        running = 0.0 if self._started is None else time.perf_counter() - self._started
        return self.device_seconds + running

    def peak(self) -> float:
        """Peak memory so far in MiB, the running block included."""
        return max(self.peak_memory_mib, self._gauges[0].read() if self._gauges else 0.0)

    def energy(self) -> float | None:
        """Energy so far in Wh, the running block included; None where the device does not report it."""
        begun = self._gauges and self._gauges[1]
        now = None if begun is None else _energy_mj(self.device)
        if now is None:  # it does not report it, or has failed since
            return self.energy_wh
        return (self.energy_wh or 0.0) + (now - begun) / 3.6e6

    def register(self, phase: str, count: Callable[[Shape], int]) -> None:
        """`count(shape)` gives the FLOPs of one `phase` on a batch of that shape."""
        self._counters[phase] = count

    def tally(self, phase: str, shape: Shape, times: int = 1) -> None:
        """Note that `phase` ran on a batch of `shape`."""
        self._tally[phase, shape] += times
        self._spent[phase, shape] += times

    def tally_closed_form(self, flops: int) -> None:
        """Note that so many FLOPs were done outside torch."""
        self.tally(CLOSED_FORM, (), int(flops))

    def flops(self) -> int:
        """All FLOPs so far, each distinct (phase, shape) counted once and multiplied."""
        return self._priced(self._spent)

    def flops_by_phase(self) -> dict[str, int]:
        """The FLOPs so far of each phase."""
        phases: Counter[str] = Counter()
        for (phase, shape), times in self._spent.items():
            phases[phase] += self._priced(Counter({(phase, shape): times}))
        return dict(phases)

    def so_far(self) -> dict[str, Any]:
        """What a point of a curve says of the cost until now; `priced` turns its tally into FLOPs, off the clock."""
        return {"device_seconds": self.seconds(), "tally": _listed(self._tally)}

    def priced(self, curve: list[dict[str, Any]]) -> list[dict[str, Any]]:
        """The curve with `flops` up to each point in the place of its tally."""
        points = []
        for point in curve:
            kept = {key: value for key, value in point.items() if key != "tally"}
            points.append(kept | {"flops": self._priced(_as_tally(point["tally"]))})
        return points

    def _priced(self, tally: Tally) -> int:
        for phase, shape in tally:
            if (phase, shape) not in self._counted:
                self._counted[phase, shape] = self._counters[phase](shape)
        return sum(self._counted[key] * times for key, times in tally.items())

    def report(
        self, examples_seen: int, predict_seconds: float, predicted: int, cached_predict_seconds: float = 0.0
    ) -> dict[str, Any]:
        """What a record says of the cost. GPU hours are device hours, of whatever device the run had."""
        return {
            "device_seconds": self.device_seconds,
            "resumed_seconds": self._resumed["device_seconds"],  # of them, those of interrupted processes
            "cached_seconds": self.cached_seconds,
            "gpu_hours": self.device_seconds / 3600,
            "flops": self.flops(),
            "flops_by_phase": self.flops_by_phase(),
            "peak_memory_mib": self.peak_memory_mib,
            "energy_wh": self.energy_wh,
            "train_samples_per_second": examples_seen / self.device_seconds,
            "predict_seconds": predict_seconds,
            "cached_predict_seconds": cached_predict_seconds,
            "predict_samples_per_second": predicted / predict_seconds,
        }

    def state(self) -> dict[str, Any]:
        """What a checkpoint keeps, so that a resumed run's clock and tally add up."""
        return {
            "device_seconds": self.seconds(),
            "cached_seconds": self.cached_seconds,
            "peak_memory_mib": self.peak(),
            "energy_wh": self.energy(),
            "tally": _listed(self._tally),
            "spent": _listed(self._spent),
        }

    def resume(self, state: dict[str, Any]) -> None:
        """Add what an interrupted run had spent until its checkpoint; what this process did before is done again.

        A later checkpoint of the same run holds what an earlier one held, so only what is beyond that is added.
        """
        for name, before in self._resumed.items():
            if state.get(name) is not None:  # not every device reports energy; old checkpoints lack `cached_seconds`
                held = max(before, state[name])
                setattr(self, name, (getattr(self, name) or 0.0) + (held - before))
                self._resumed[name] = held
        spent = _as_tally(state["spent"])
        self._spent += spent - self._resumed_spent
        self._resumed_spent |= spent
        self.peak_memory_mib = max(self.peak_memory_mib, state["peak_memory_mib"])
        self._tally = _as_tally(state["tally"])


def _listed(tally: Tally) -> list[list[Any]]:
    return [[phase, list(shape), times] for (phase, shape), times in tally.items()]


def _as_tally(listed: list[list[Any]]) -> Tally:
    return Counter({(phase, tuple(shape)): times for phase, shape, times in listed})


class _PeakMemory:
    """High water of memory in the block, in MiB: what is allocated on a GPU, else what is resident above the start."""

    def __init__(self, device: str):
        self.cuda, self.paused = device == "cuda", False

    def __enter__(self) -> "_PeakMemory":
        if self.cuda:
            import torch

            torch.cuda.reset_peak_memory_stats()
            return self
        give_back()  # else this block would use again what was freed before, and none of it would be seen
        self.start = self.high = _resident()
        self.stop = threading.Event()
        self.thread = threading.Thread(target=self._watch, daemon=True)
        self.thread.start()
        return self

    def _watch(self) -> None:
        while not self.stop.wait(SAMPLE_EVERY):
            self.high = self._highest()

    def _highest(self) -> int:
        return self.high if self.paused else max(self.high, _resident())

    def read(self) -> float:
        if self.cuda:
            import torch

            return torch.cuda.max_memory_allocated() / MIB
        return (self._highest() - self.start) / MIB

    def __exit__(self, *_: object) -> None:
        if not self.cuda:
            self.stop.set()
            self.thread.join()


def _resident() -> int:
    import psutil

    return psutil.Process().memory_info().rss


def _synchronize(device: str) -> None:
    if device == "cuda":
        import torch

        torch.cuda.synchronize()


def _energy_mj(device: str) -> int | None:
    """Millijoules since the driver was loaded, read from NVML; None where it does not report it."""
    if device != "cuda":
        return None
    import pynvml
    import torch

    try:
        pynvml.nvmlInit()
        uuid = f"GPU-{torch.cuda.get_device_properties(0).uuid}"
        return pynvml.nvmlDeviceGetTotalEnergyConsumption(pynvml.nvmlDeviceGetHandleByUUID(uuid))
    except pynvml.NVMLError:
        return None
