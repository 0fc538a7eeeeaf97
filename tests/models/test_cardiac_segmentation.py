"""The segmentation recipe of ``cardiac`` on a made-up patient: no research data needed."""

from __future__ import annotations

from pathlib import Path

import nibabel
import numpy as np
import pytest
import torch

from models.cardiac import train_segmentation as recipe
from models.cardiac.augmentation import SIDES, make_patch
from models.cardiac.patients import Frame, frame_files, read_frame
from models.cardiac.segmentation_network import SliceConv, SliceUnfold, StackNetwork, widen
from models.cardiac.train_segmentation import Patches, predict, segmentation_loss, validate


def frame(depth: int = 7) -> Frame:
    """Rings of the three labels on a grid of its own."""
    y, x = np.mgrid[:90, :100]
    radius = np.hypot(y - 50, x - 40)
    labels = np.select([radius < 10, radius < 16, np.hypot(y - 50, x - 66) < 9], [3, 2, 1])
    stack = torch.from_numpy(np.repeat(labels[None], depth, 0).astype(np.uint8))
    noise = torch.randn(stack.shape, generator=torch.Generator().manual_seed(0))
    return Frame(stack.float() - 0.5 + 0.1 * noise, stack, (10.0, 1.4, 1.4))


def test_convolutions_within_slices_are_the_ones_exported() -> None:
    stack = torch.randn(2, 3, 4, 8, 8)
    convolution = SliceConv(3, 5, (1, 3, 3), padding=(0, 1, 1))
    torch.testing.assert_close(convolution(stack), torch.nn.Conv3d.forward(convolution, stack))
    unfold = SliceUnfold(3, 2)
    torch.testing.assert_close(unfold(stack), torch.nn.ConvTranspose3d.forward(unfold, stack))


def test_network_takes_any_number_of_slices() -> None:
    network = StackNetwork(channels=(4, 6, 8, 8), tail=4).eval()
    for depth in (1, 5):
        assert network(torch.zeros(2, 1, depth, 32, 48)).shape == (2, 4, depth, 32, 48)
    assert network.stride == (1, 16, 16)


def test_patches_are_seeded_and_show_the_heart() -> None:
    patches = [make_patch(torch.Generator().manual_seed(5), frame(), 6, 112) for _ in range(2)]
    for one, other in zip(*patches, strict=True):
        assert torch.equal(one, other)
    image, labels = patches[0]
    assert image.shape == (1, 6, 112, 112)
    assert labels.shape == (6, 112, 112)
    assert set(labels.unique().tolist()) == {0, 1, 2, 3}


def test_batches_have_as_many_slices_as_the_shortest_stack() -> None:
    stream = iter(Patches([frame(3), frame(9)], seed=0))
    sides = set()
    for _ in range(20):
        images, labels = next(stream)
        side = images.shape[-1]
        assert images.shape == (2, 1, 3, side, side)
        assert labels.dtype == torch.int64
        sides.add(side)
    assert sides == set(SIDES)


def test_stacks_of_equal_depth_share_a_batch_and_are_mostly_whole() -> None:
    frames = [frame(depth) for depth in (8, 11, 8, 11, 8, 8)]
    stream = iter(Patches(frames, seed=0))
    depths = [next(stream)[0].shape[2] for _ in range(60)]
    assert set(depths) <= set(range(recipe.FEWEST, 12))
    whole = sum(depth in (8, 11) for depth in depths)
    assert 30 < whole < 60  # three in four, and some of the others by chance
    assert depths.count(11) == pytest.approx(whole / 3, abs=8)


def test_a_widened_network_says_what_the_old_one_said() -> None:
    torch.manual_seed(0)
    network = StackNetwork(channels=(4, 6, 8, 8), tail=4).eval()
    weights = dict(network.state_dict())
    assert all(torch.equal(v, weights[k]) for k, v in widen(weights, network).items())
    # As it was: without the image in the tail, and with one kernel within slices.
    network.edges.weight.data.zero_()
    kernel = network.down[1][0][0].weight
    kernel.data[:, :, [0, 2]] = 0
    old = {name: value.clone() for name, value in network.state_dict().items()}
    narrow = old["down.1.0.0.weight"][:, :, 1:2]
    del old["edges.weight"]
    widened = widen({**old, "down.1.0.0.weight": narrow}, network)
    other = StackNetwork(channels=(4, 6, 8, 8), tail=4).eval()
    other.load_state_dict(widened)
    stack = torch.randn(1, 1, 5, 32, 32)
    assert torch.equal(other(stack), network(stack))


def test_settled_statistics_stay_while_weights_are_trained() -> None:
    network = StackNetwork(channels=(4, 6, 8, 8), tail=4)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    recipe.settle(network)
    optimizer = torch.optim.AdamW(network.parameters(), lr=1e-3)
    images, labels = torch.randn(2, 1, 4, 32, 32), torch.randint(4, (2, 4, 32, 32))
    recipe.train_batch(network, optimizer, (images, labels))
    for name, value in network.state_dict().items():
        kept = "running" in name or "num_batches" in name
        assert torch.equal(value, before[name]) == kept, name


def test_loss_prefers_the_truth() -> None:
    labels = frame().labels[None].long()
    truth = torch.nn.functional.one_hot(labels, 4).movedim(-1, 1).float() * 20
    right, wrong = (float(segmentation_loss(each, labels)) for each in (truth, truth.flip(1)))
    assert right < 0.01
    assert wrong > 1


class Thresholds(torch.nn.Module):
    """Knows the made-up patient: the intensity is the label."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.tensor(1.0))

    def forward(self, stack: torch.Tensor) -> torch.Tensor:
        levels = torch.arange(4).view(1, 4, 1, 1, 1)
        return -self.scale * (stack + 0.5 - levels).abs()


def test_validation_measures_on_the_native_grid() -> None:
    network = Thresholds()
    labels = predict(network.eval(), frame(), torch.device("cpu"))
    assert labels.shape == frame().labels.shape
    reached = validate(network, [frame(), frame(3)])
    # Between the left ventricle and the background lie the values of the other labels.
    assert reached["left ventricle"] > 0.93
    assert network.training


def test_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = tmp_path / "acdc"
    for number in (1, 2):
        folder = data / f"patient{number:03d}"
        folder.mkdir(parents=True)
        (folder / "Info.cfg").write_text("ED: 1\nES: 9\nGroup: NOR")
        for image, labels in frame_files(data, number):
            for path, volume in ((image, frame().image), (labels, frame().labels)):
                affine = np.diag([1.4, 1.4, 10, 1])
                nibabel.save(nibabel.Nifti1Image(volume.numpy().T, affine), path)
    read = read_frame(*frame_files(data, 1)[0])
    assert torch.equal(read.labels, frame().labels)
    assert read.spacing == pytest.approx((10.0, 1.4, 1.4))
    assert abs(float(read.image.mean())) < 1e-5
    monkeypatch.setattr(recipe, "TRAINING", [1])
    monkeypatch.setattr(recipe, "VALIDATION", [2])
    monkeypatch.setattr(recipe, "StackNetwork", lambda: StackNetwork(channels=(4, 6), tail=4))
    for steps in (2, 4):
        weights = recipe.train(tmp_path / "run", data, steps, seed=0)
    assert torch.load(tmp_path / "run/checkpoint.pt", weights_only=True)["step"] == 4
    assert len((tmp_path / "run/log.csv").read_text().splitlines()) == 3
    assert (tmp_path / "run/curves.png").stat().st_size > 1000
    StackNetwork(channels=(4, 6), tail=4).load_state_dict(torch.load(weights, weights_only=True))
