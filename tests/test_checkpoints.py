"""Promises of checkpoints and weight files."""

import random

import numpy as np
import pytest
import torch

from medical_gans.errors import InputError
from medical_gans.networks import BoneGenerator, ResnetGenerator
from medical_gans.training.checkpoints import load_checkpoint, random_states, restore_random_states, save_checkpoint
from medical_gans.weights import initialised, load_weights, save_weights


def test_all_random_generators_go_on_where_they_were():
    random.seed(1), np.random.seed(2), torch.manual_seed(3)  # noqa: NPY002
    np.random.standard_normal()  # noqa: NPY002 - leaves half of a pair cached
    state = random_states()
    drawn = random.random(), np.random.standard_normal(), float(torch.rand(()))  # noqa: NPY002
    restore_random_states(state)
    assert (random.random(), np.random.standard_normal(), float(torch.rand(()))) == drawn  # noqa: NPY002


def test_checkpoint_brings_back_parts_and_counters_and_loads_weights_only(tmp_path):
    network = torch.nn.Linear(3, 2)
    optimiser = torch.optim.Adam(network.parameters(), 0.1)
    network(torch.ones(1, 3)).sum().backward()
    optimiser.step()
    save_checkpoint(tmp_path / "checkpoint.pt", {"net": network, "opt": optimiser}, {"epoch": 4, "best": 1.5})
    other = torch.nn.Linear(3, 2)
    other_optimiser = torch.optim.Adam(other.parameters(), 0.1)
    counters = load_checkpoint(tmp_path / "checkpoint.pt", {"net": other, "opt": other_optimiser})
    assert counters == {"epoch": 4, "best": 1.5}
    assert torch.equal(other.weight, network.weight)
    assert torch.equal(other_optimiser.state_dict()["state"][0]["exp_avg"], optimiser.state[network.weight]["exp_avg"])
    assert sorted(p.name for p in tmp_path.iterdir()) == ["checkpoint.pt"]


def test_checkpoint_of_other_networks_is_refused_with_a_reason(tmp_path):
    save_checkpoint(tmp_path / "c.pt", {"net": torch.nn.Linear(3, 2)}, {})
    with pytest.raises(InputError, match="does not fit the networks"):
        load_checkpoint(tmp_path / "c.pt", {"net": torch.nn.Linear(4, 2)})
    with pytest.raises(InputError, match="another kind of run"):
        load_checkpoint(tmp_path / "c.pt", {"step": torch.nn.Linear(3, 2)})


def test_weights_come_back_equal_and_ready_for_inference(tmp_path):
    generator = ResnetGenerator(width=4, blocks=1)
    save_weights(tmp_path / "w.pt", generator)
    loaded = load_weights(ResnetGenerator(width=4, blocks=1), tmp_path / "w.pt")
    assert not loaded.training
    for name, tensor in generator.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], tensor)


def test_half_precision_weights_are_taken_too(tmp_path):
    generator = ResnetGenerator(width=4, blocks=1)
    torch.save({n: t.half() for n, t in generator.state_dict().items()}, tmp_path / "half.pt")
    loaded = load_weights(ResnetGenerator(width=4, blocks=1), tmp_path / "half.pt")
    for name, tensor in generator.state_dict().items():
        assert loaded.state_dict()[name].dtype == torch.float32
        assert torch.allclose(loaded.state_dict()[name], tensor, rtol=1e-3, atol=1e-6)


def test_weights_that_do_not_fit_name_a_tensor_and_the_setting(tmp_path):
    save_weights(tmp_path / "w.pt", ResnetGenerator(width=4, blocks=1))
    with pytest.raises(InputError, match=r"do not fit the network: \d+ of \d+ .*layers.*network_def"):
        load_weights(ResnetGenerator(width=8, blocks=1), tmp_path / "w.pt")


@pytest.mark.parametrize("content", [b"", b"no zip at all", b"PK\x03\x04 cut off"])
def test_damaged_weights_are_refused(tmp_path, content):
    (tmp_path / "w.pt").write_bytes(content)
    with pytest.raises(InputError, match=r"w\.pt"):
        load_weights(ResnetGenerator(width=4, blocks=1), tmp_path / "w.pt")


def test_pickled_code_in_a_weights_file_is_not_run(tmp_path):
    class Malicious:
        def __reduce__(self):
            return (open, (str(tmp_path / "touched"), "w"))

    torch.save({"layers": Malicious()}, tmp_path / "w.pt")
    with pytest.raises(InputError):
        load_weights(ResnetGenerator(width=4, blocks=1), tmp_path / "w.pt")
    assert not (tmp_path / "touched").exists()


def test_missing_weights_are_named(tmp_path):
    with pytest.raises(InputError, match="does not exist"):
        load_weights(ResnetGenerator(width=4, blocks=1), tmp_path / "none.pt")


def test_initial_weights_leave_the_network_ready_to_train(tmp_path):
    first = ResnetGenerator(width=4, blocks=1)
    save_weights(tmp_path / "w.pt", first)
    started = initialised(ResnetGenerator(width=4, blocks=1), tmp_path / "w.pt")
    assert started.training
    assert torch.equal(started.layers[0].weight, first.layers[0].weight)
    untouched = ResnetGenerator(width=4, blocks=1)
    assert initialised(untouched, None) is untouched


def test_several_initial_weights_give_their_mean(tmp_path):
    made = [ResnetGenerator(width=4, blocks=1) for _ in range(3)]
    for number, network in enumerate(made):
        save_weights(tmp_path / f"{number}.pt", network)
    started = initialised(ResnetGenerator(width=4, blocks=1), [tmp_path / f"{number}.pt" for number in range(3)])
    for name, tensor in started.state_dict().items():
        torch.testing.assert_close(tensor, sum(one.state_dict()[name] for one in made) / 3)
    save_weights(tmp_path / "other.pt", ResnetGenerator(width=8, blocks=1))
    with pytest.raises(InputError, match="different networks"):
        initialised(ResnetGenerator(width=4, blocks=1), [tmp_path / "0.pt", tmp_path / "other.pt"])


def test_a_branch_that_the_initial_weights_lack_starts_anew_and_is_named(tmp_path, caplog):
    first = BoneGenerator(widths=(4, 8), blocks=(1, 1))
    save_weights(tmp_path / "w.pt", first)
    with caplog.at_level("INFO"):
        started = initialised(BoneGenerator(widths=(4, 8), blocks=(1, 1), brain_hounsfield=(7.0,)), tmp_path / "w.pt")
    assert torch.equal(started.head.weight, first.head.weight) and started.training
    assert "brain.1.weight" in caplog.text and "head" not in caplog.text


def test_initial_weights_with_half_a_layer_or_one_too_many_are_refused(tmp_path):
    network = BoneGenerator(widths=(4, 8), blocks=(1, 1))
    half = {name: tensor for name, tensor in network.state_dict().items() if name != "stem.bias"}
    for weights in (half, network.state_dict() | {"brain.1.weight": torch.zeros(1)}):
        torch.save(weights, tmp_path / "w.pt")
        with pytest.raises(InputError, match="do not fit the network"):
            initialised(BoneGenerator(widths=(4, 8), blocks=(1, 1)), tmp_path / "w.pt")
