import contextlib
import itertools
import json
import mmap
import time

import pytest
import torch
from torch import nn
from transformers import BertConfig
from transformers.models.bert.modeling_bert import BertLayer

from lrtl_utils.measure import flops
from lrtl_utils.measure import meter as meters
from lrtl_utils.measure.flops import count_flops, linear_solver_flops, of_any_shape, tfidf_flops
from lrtl_utils.measure.memory import keep_freed
from lrtl_utils.measure.meter import CostMeter

BATCH, TOKENS, WIDTH, INNER = 2, 24, 32, 64
LINEAR_LAYERS = 4 * 2 * BATCH * TOKENS * WIDTH**2 + 2 * 2 * BATCH * TOKENS * WIDTH * INNER
ATTENTION = 2 * 2 * BATCH * TOKENS**2 * WIDTH  # queries by keys, and weights by values


@pytest.fixture(params=["cpu", "meta"])
def block(request):
    """A BERT layer and an input for it, on a device with numbers and on one without.

    Without dropout: with it, the fused kernel that counts as nothing would not be taken on a CPU.
    """
    config = BertConfig(hidden_size=WIDTH, intermediate_size=INNER, num_attention_heads=4, attn_implementation="sdpa")
    with torch.device(request.param):
        return BertLayer(config).eval(), torch.zeros(BATCH, TOKENS, WIDTH, requires_grad=True)


def test_transformer_block_forward(block):
    layer, inputs = block
    with torch.no_grad():
        assert count_flops(lambda: layer(inputs)) == LINEAR_LAYERS + ATTENTION


def test_transformer_block_forward_and_backward(block):
    layer, inputs = block
    assert count_flops(lambda: layer(inputs).sum().backward()) == 3 * (LINEAR_LAYERS + ATTENTION)


def test_frozen_transformer_block_has_no_gradients_of_weights(block):
    layer, inputs = block
    layer.requires_grad_(False)
    # Of a product with weights only the gradient of its input is left; attention has no weights.
    assert count_flops(lambda: layer(inputs).sum().backward()) == 2 * LINEAR_LAYERS + 3 * ATTENTION


def test_linear_layer():
    layer, inputs = nn.Linear(7, 5), torch.zeros(3, 7)
    assert count_flops(lambda: layer(inputs)) == 2 * 3 * 7 * 5
    assert count_flops(lambda: layer(inputs).sum().backward()) == 2 * 2 * 3 * 7 * 5


def test_convolution():
    layer, inputs = nn.Conv2d(3, 8, kernel_size=5, padding=2), torch.zeros(2, 3, 16, 16)
    with torch.no_grad():
        assert count_flops(lambda: layer(inputs)) == 2 * (3 * 5 * 5) * 8 * (2 * 16 * 16)


def test_a_pass_that_is_no_polynomial_of_its_tokens_is_counted_at_each_shape(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))

    def in_blocks(shape):
        return shape[0] * -(-shape[1] // 32)

    assert of_any_shape(lambda: "in blocks", "text", in_blocks)((3, 70)) == in_blocks((3, 70))


def test_what_was_counted_is_kept_for_the_same_pass_only(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert of_any_shape(lambda: "this", "image", lambda shape: 7)((2, 3, 8, 8)) == 14
    flops._known.cache_clear()  # as in another process
    assert of_any_shape(lambda: "this", "image", lambda shape: 0)((4, 3, 8, 8)) == 28
    assert of_any_shape(lambda: "that", "image", lambda shape: 1)((4, 3, 8, 8)) == 4
    assert of_any_shape(lambda: "this", "image", lambda shape: 1)((4, 3, 9, 9)) == 4


def test_linear_solver_costs_what_its_steps_would_in_torch():
    rows, width, classes, iterations = 11, 7, 3, 4
    layer, inputs = nn.Linear(width, classes, bias=False), torch.zeros(rows, width)
    step = count_flops(lambda: layer(inputs).sum().backward())
    assert linear_solver_flops(rows * width, classes, iterations) == iterations * step


def test_tfidf_costs_a_product_a_square_a_sum_and_a_division_for_each_entry():
    assert tfidf_flops(6) == 6 + 6 + 6 + 6


def test_tally_counts_a_shape_once_and_multiplies():
    counted = []

    def count(shape):
        counted.append(shape)
        return shape[0] * 10

    meter = CostMeter()
    meter.register("step", count)
    meter.register("forward", lambda shape: shape[0])
    for shape in ((8, 16), (4, 16), (8, 16)):
        meter.tally("step", shape)
    meter.tally("forward", (8, 16), times=5)
    meter.tally_closed_form(7)
    assert counted == []  # nothing is counted on the clock
    assert meter.flops() == meter.flops() == 80 + 40 + 80 + 5 * 8 + 7
    assert sorted(counted) == [(4, 16), (8, 16)]


def test_clock_adds_blocks_and_stands_still_between_them():
    meter = CostMeter()
    with meter.measure():
        time.sleep(0.02)
        assert meter.seconds() >= 0.02
    first = meter.device_seconds
    time.sleep(0.02)
    assert meter.seconds() == first
    with contextlib.suppress(KeyError), meter.measure():
        time.sleep(0.02)
        raise KeyError
    assert meter.seconds() == meter.device_seconds >= first + 0.02


def resident(mib):
    """So much memory, straight from the system: an allocator may hand out again what an earlier test gave back."""
    block = mmap.mmap(-1, mib * 2**20)
    for _ in range(mib):
        block.write(bytes(2**20))
    return block


def test_peak_memory_is_what_the_block_took_above_its_start():
    kept = resident(64)  # before the clock starts
    meter = CostMeter()
    with meter.measure():
        block = resident(128)
        time.sleep(0.1)
        block.close()
    assert 120 < meter.peak_memory_mib < 180
    kept.close()


def test_state_inside_the_block_has_the_peak_so_far():
    meter = CostMeter()
    with meter.measure(), resident(128):
        assert meter.state()["peak_memory_mib"] > 120


def test_report_speaks_of_the_device_and_invents_no_energy():
    meter = CostMeter()
    with meter.measure():
        time.sleep(0.01)
    report = meter.report(examples_seen=30, predict_seconds=2.0, predicted=100)
    assert report["gpu_hours"] == report["device_seconds"] / 3600 > 0
    assert report["train_samples_per_second"] == pytest.approx(30 / report["device_seconds"])
    assert report["predict_samples_per_second"] == 50
    assert report["energy_wh"] is None


def test_an_interrupted_runs_costs_add_up():
    def tally(meter, times):
        meter.register("step", lambda shape: shape[0])
        meter.tally("step", (3, 4), times)
        meter.tally_closed_form(1)
        with meter.measure():
            time.sleep(0.01)
        return meter

    first = tally(CostMeter(), times=2)
    second = CostMeter()
    second.resume(json.loads(json.dumps(first.state())))
    tally(second, times=5)
    assert second.flops() == 7 * 3 + 2
    assert second.seconds() >= first.seconds() + 0.01
    assert second.peak_memory_mib >= first.peak_memory_mib
    assert second.report(1, 1.0, 1)["resumed_seconds"] == first.seconds()


def test_work_that_a_resumed_run_does_again_counts_in_seconds_and_in_flops():
    def spend(meter, phase):
        meter.tally(phase, ())
        meter.device_seconds += 1.0

    first, second, third = CostMeter(), CostMeter(), CostMeter()
    for meter, rung in itertools.product((second, third), range(3)):
        meter.register(f"rung {rung}", lambda _shape: 1)
    spend(first, "rung 0")
    spend(first, "rung 1")
    early = first.state()
    spend(second, "rung 0")
    second.resume(early)
    spend(second, "rung 2")
    late = second.state()
    spend(third, "rung 0")
    third.resume(early)
    third.resume(late)  # it holds the early one
    assert second.flops_by_phase() == {"rung 0": 2, "rung 1": 1, "rung 2": 1}
    assert third.flops_by_phase() == {"rung 0": 3, "rung 1": 1, "rung 2": 1}
    assert (second.seconds(), third.seconds()) == (second.flops(), third.flops()) == (4, 5)
    assert third.priced([third.so_far()])[0]["flops"] == 3  # of the run without interruptions


@pytest.mark.parametrize("groups", [1, 4, 8])
def test_a_convolution_backward_costs_twice_its_forward_pass_whatever_its_groups(groups):
    conv = torch.nn.Conv2d(8, 8, 3, padding=1, groups=groups, bias=False)
    inputs = torch.zeros(2, 8, 6, 6, requires_grad=True)
    forward = 2 * (2 * 6 * 6 * 8) * (8 // groups) * 9
    assert count_flops(lambda: conv(inputs)) == forward
    assert count_flops(lambda: conv(inputs).sum().backward()) == 3 * forward
    assert count_flops(lambda: conv(inputs.detach()).sum().backward()) == 2 * forward


def test_what_is_done_aside_is_neither_on_the_clock_nor_in_the_peak():
    keep_freed()  # as a run does
    began = time.perf_counter()
    with (meter := CostMeter()).measure():
        before = meter.seconds()
        with meter.aside() as now:
            held = bytearray(80 * 2**20)
            held[::4096] = bytes([1]) * len(held[::4096])
            time.sleep(0.1)
            del held
        assert before <= now <= meter.seconds()
    assert meter.device_seconds <= time.perf_counter() - began - 0.1
    assert meter.peak_memory_mib < 40
    with meter.aside() as now:  # a clock that stands still goes on standing
        assert now == meter.device_seconds


def test_what_is_taken_from_an_earlier_run_costs_what_it_cost_that_one_also_when_resumed():
    first, second = CostMeter(), CostMeter()
    with first.measure():
        first.take(5.0, 300.0, None)
    assert first.device_seconds >= 5.0
    assert (first.cached_seconds, first.peak_memory_mib, first.energy_wh) == (5.0, 300.0, None)
    assert 0 <= first.clocked() == pytest.approx(first.device_seconds - 5.0)
    with second.measure():
        second.take(5.0, 300.0, 0.5)  # as the first did; it then finds the checkpoint of that
        second.resume(json.loads(json.dumps(first.state())))
    report = second.report(1, 2.0, 1, cached_predict_seconds=1.5)
    assert (report["cached_seconds"], report["cached_predict_seconds"], report["energy_wh"]) == (10.0, 1.5, 0.5)
    assert report["device_seconds"] == pytest.approx(5.0 + second.clocked() + first.device_seconds)
    assert first.state().keys() >= {"cached_seconds"}
    CostMeter().resume({name: each for name, each in first.state().items() if name != "cached_seconds"})


def test_a_device_that_is_lost_leaves_its_own_error_and_the_energy_until_then(monkeypatch):
    read = iter([3_600_000, None])  # the driver answers no more
    monkeypatch.setattr(meters, "_energy_mj", lambda device: next(read))
    meter = CostMeter()
    meter.take(1.0, 0.0, 0.5)
    with pytest.raises(RuntimeError, match="unspecified launch failure"), meter.measure():
        raise RuntimeError("CUDA error: unspecified launch failure")
    assert meter.energy_wh == 0.5
