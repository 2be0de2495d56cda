"""Agreement between members, held against Dice of all pairs."""

from itertools import combinations

import pytest
import torch

from unetpipe.inference.agreement import Agreement


def test_it_is_the_pooled_dice_of_all_pairs() -> None:
    """For four random members, added in two parts: intersections of all pairs over mean sizes, per class."""
    generator = torch.Generator().manual_seed(0)
    members = [torch.randint(0, 3, (2, 5, 6, 4), generator=generator) for _ in range(4)]
    agreement = Agreement()
    for half in range(2):
        agreement.add([member[half] for member in members], classes=4)
    got = agreement.dice()
    for label in range(3):
        pairs = [(a == label, b == label) for a, b in combinations(members, 2)]
        common = sum(int((a & b).sum()) for a, b in pairs)
        sizes = sum(int(a.sum()) + int(b.sum()) for a, b in pairs)
        assert got[label] == pytest.approx(2 * common / sizes)
    assert got[3] is None


def test_members_that_agree_score_one() -> None:
    """Equal labels give 1, and members that share no voxel of a class give 0."""
    labels = torch.tensor([0, 1, 1, 0])
    same, apart = Agreement(), Agreement()
    same.add([labels, labels.clone()], classes=2)
    apart.add([labels, 1 - labels], classes=2)
    assert same.dice() == [1, 1]
    assert apart.dice() == [0, 0]
    assert Agreement().dice() == []
