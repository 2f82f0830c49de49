import resource
import subprocess
import sys

import numpy as np
import pytest

from lrtl_utils.measure import memory
from lrtl_utils.measure.meter import CostMeter

SIZE = 48 * 2**20  # more than glibc would ever keep by itself
pytestmark = pytest.mark.skipif(not memory._glibc(), reason="of another C library nothing is known")


def faults_of_a_block():
    """How many pages the system has to clear for a block that is written and freed."""
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.ones(SIZE, np.uint8)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


def in_another_process(call):
    """Other tests do not get the options that it sets."""
    code = f"import {__name__} as here; here.{call.__name__}()"
    subprocess.run([sys.executable, "-c", code], check=True, env={"PYTHONPATH": ":".join(sys.path)})


def check_that_freed_memory_is_used_again():
    assert min(faults_of_a_block() for _ in range(3)) > 0
    memory.keep_freed()
    faults_of_a_block()
    assert min(faults_of_a_block() for _ in range(3)) < 16  # a system may move pages between nodes


def check_that_memory_that_is_used_again_is_measured():
    memory.keep_freed()
    faults_of_a_block()
    meter = CostMeter()
    with meter.measure():
        block = np.ones(SIZE, np.uint8)
        assert meter.peak() == pytest.approx(block.nbytes / 2**20, abs=8)


def check_that_a_model_for_counting_takes_no_memory():
    from lrtl_utils.config import RunConfig
    from lrtl_utils.models.build import build  # with torch, for which the processes of the other checks need not wait

    memory.keep_freed()
    model, meter = build(RunConfig(model="efficientnet_lite0"), "image", 2, None), CostMeter()
    with meter.measure():
        faults_of_a_block()
        held = meter.peak()
        twin = model.for_counting()
        assert meter.peak() - held < 4 < sum(weight.nbytes for weight in twin.parameters()) / 2**20


CHECKS = [
    check_that_freed_memory_is_used_again,
    check_that_memory_that_is_used_again_is_measured,
    check_that_a_model_for_counting_takes_no_memory,
]


@pytest.mark.parametrize("check", CHECKS)
def test_in_another_process(check):
    in_another_process(check)
