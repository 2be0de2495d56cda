"""Smaller versions of a plan."""

import math

import pytest

from unetpipe.dataset.planning.plan import Configuration
from unetpipe.dataset.planning.reduction import patch_work, reductions
from unetpipe.dataset.planning.topology import make_topology
from unetpipe.networks.build import build_network
from unetpipe.networks.definition import network_definition
from unetpipe.networks.summary import summarize_network


def test_the_order_of_what_is_given_up(retina: Configuration) -> None:
    """Long axes, channels, axes again; the depth follows the patch by nnU-Net's rule, and the cost falls each time."""
    found = list(reductions(retina))
    assert [one.change for one in found] == [
        "the plan",
        "patch 640x640 to 320x640",
        "patch 320x640 to 320x320",
        "features 32 to 16",
        "patch 320x320 to 160x320",
        "patch 160x320 to 160x160",
        "patch 160x160 to 80x160",
        "patch 80x160 to 80x80",
    ]
    last = found[-1].configuration
    rule = make_topology((1.0, 1.0), (80, 80))
    assert (last.patch_size, last.strides, last.kernel_sizes) == (rule.patch_size, rule.strides, rule.kernel_sizes)
    assert last.features == (16, 32, 64, 128, 256)
    work = [patch_work(one.configuration, 3, 2) * one.configuration.batch_size for one in found]
    assert work == sorted(work, reverse=True)
    assert work[0] / work[-1] > 30


def test_thick_slices_keep_their_few_planes(heart: Configuration) -> None:
    """No axis is halved to less than 32 voxels, and the coarsest axis is pooled as late as nnU-Net pools it."""
    found = [one.configuration for one in reductions(heart)]
    assert found[1].batch_size == 4
    assert found[-1].patch_size == (56, 32, 10)
    assert all(one.patch_size[2] == 10 for one in found)
    rule = make_topology((8.0, 1.5, 1.5), (10, 32, 56))
    assert found[-1].strides == tuple(one[::-1] for one in rule.strides)


def test_slices_of_volumes_stay_slices(heart_slices: Configuration) -> None:
    """A patch that is a voxel thick is a plane, and stays one."""
    last = list(reductions(heart_slices))[-1].configuration
    assert last.patch_size == (64, 64, 1)
    assert all(stride[2] == 1 for stride in last.strides)
    assert last.kernel_sizes[0] == (3, 3, 1)


def test_a_given_network_keeps_its_patch_and_ranks_a_patch_each(heart: Configuration, retina: Configuration) -> None:
    """Weights of another model fit one patch and one width; of six processes none is left without a patch."""
    assert [
        one.change
        for one in reductions(heart.model_copy(update={"batch_size": 32}), smallest_batch=6, fixed_network=True)
    ] == [
        "the plan",
        "batch 32 to 16",
        "batch 16 to 8",
        "batch 8 to 6",
    ]
    assert [one.configuration.batch_size for one in reductions(retina, fixed_network=True)] == [2]


@pytest.mark.parametrize("network", ["dynunet", "resenc"])
def test_work_is_that_of_the_network(network: str, heart: Configuration) -> None:
    """Between two versions of a plan, work changes as the operations and values that the network itself counts."""
    found = [one.configuration for one in reductions(heart)]
    counted, estimated = [], []
    for one in (found[0], found[-1]):
        blocks = (1, 3, 4, 6, 6, 6)[: len(one.features)] if network == "resenc" else None
        configuration = one.model_copy(update={"encoder_blocks": blocks})
        stages = summarize_network(build_network(network_definition(network, configuration, 1, 4)), 1, one.patch_size)
        counted.append(sum(stage.flops for stage in stages))
        estimated.append(patch_work(configuration, 1, 4))
    assert math.log(estimated[0] / estimated[1]) == pytest.approx(math.log(counted[0] / counted[1]), rel=0.2)
