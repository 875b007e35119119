"""Training: that it learns, what it leaves in its folder, that it resumes, and that seeds decide everything."""

from __future__ import annotations

import csv
import math
from dataclasses import asdict, replace
from pathlib import Path

import lightning as L
import numpy as np
import pytest
import torch
from conftest import COLOURS
from torch import Tensor, nn

from zoo.annotations import Annotations
from zoo.evaluate import compute_scores, evaluate
from zoo.features import OnFeatures
from zoo.graph import label_graph, unlinked_labels
from zoo.heads import HEADS, build_head
from zoo.heads.linear import LinearHead
from zoo.lookup import InputError
from zoo.losses import LOSSES
from zoo.metrics import mean_average_precision
from zoo.model import MultiLabelClassifier, build
from zoo.order import TrainingOrder
from zoo.recipe import Recipe
from zoo.runtime import Runtime
from zoo.saved_model import load
from zoo.train import (
    Classification,
    feature_loader,
    fit,
    fit_in_memory,
    image_loader,
    tensor_loader,
)

QUICK = Recipe(epochs=3, batch_size=8, lr=1e-2)
HERE = Runtime(workers=0)


def tiny(labels, head: str = "mlgcn", seed: int = 0, **options) -> MultiLabelClassifier:
    torch.manual_seed(seed)
    if head == "mlgcn":
        options = {"widths": (16,)} | options
    return build(f"{head}-test_efficientnet", labels, img_size=32, **options)


def state(module: nn.Module) -> dict[str, Tensor]:
    return {key: value.clone() for key, value in module.state_dict().items()}


def same(first: dict[str, Tensor], second: dict[str, Tensor]) -> bool:
    return first.keys() == second.keys() and all(torch.equal(first[key], second[key]) for key in first)


def toy_loaders(recipe: Recipe, seed: int = 0):
    """40 features of 6 channels for 2 labels that a linear layer can tell, 30 of them to train on."""
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(40, 6, generator=generator)
    targets = (features[:, :2] + 0.1 * torch.randn(40, 2, generator=generator) > 0).to(torch.int8)
    return (
        tensor_loader(features[:30], targets[:30], recipe, shuffle=True),
        tensor_loader(features[30:], targets[30:], recipe),
    )


def toy_model(seed: int = 0, **options) -> OnFeatures:
    torch.manual_seed(seed)
    return OnFeatures(build_head("linear", 6, unlinked_labels(["dog", "cat"]), **options))


# --- it learns -----------------------------------------------------------------------------------------------


def test_overfits_16_images_end_to_end(colours, colour_graph, tmp_path):
    train = colours.split("train")
    copies = replace(
        train,
        images=list(train.images) * 2,
        annotations=Annotations.from_array(np.tile(train.targets, (2, 1))),
        splits=np.repeat(["train", "val"], 16),
    )
    recipe = Recipe(epochs=25, batch_size=8, lr=1e-2, backbone_lr_ratio=1.0)
    model = tiny(colour_graph)
    run = fit(model, copies, recipe, tmp_path, runtime=HERE, progress=False)
    assert len(run.history) == 25
    assert run.history[-1]["train_loss"] < 0.5 * run.history[0]["train_loss"]
    assert evaluate(model, train, workers=0, progress=False).metrics()["mAP"] == 1.0
    assert model.predict(train.images[3], top_k=2)[0].keys() == {"red", "green"}
    assert run.test is None, "there is no test split"


@pytest.mark.parametrize("head", ["linear", "mlp", "mlgcn", "sgc", "gat"])
def test_loss_decreases_on_frozen_features(head, colours, colour_graph, tmp_path):
    recipe, model = replace(QUICK, epochs=8, lr=1e-3), tiny(colour_graph, head)
    run = fit(model, colours, recipe, tmp_path, freeze_backbone=True, runtime=HERE, progress=False)
    assert run.history[-1]["train_loss"] < 0.8 * run.history[0]["train_loss"]


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
@pytest.mark.parametrize("loss", sorted(LOSSES))
def test_every_loss_and_optimizer_learns(loss, optimizer):
    recipe = Recipe(loss=loss, optimizer=optimizer, lr=0.1, epochs=15, batch_size=8)
    model = toy_model()
    train, val = toy_loaders(recipe)
    history = fit_in_memory(model, train, val, recipe, train.dataset.tensors[1])
    assert [row["epoch"] for row in history] == list(range(15))
    assert max(row["val_mAP"] for row in history) > 0.95
    share = (
        0.9 if loss == "two-way" else 0.5
    )  # over many images at once, its logsumexp is large to begin with
    assert history[-1]["val_loss"] < share * history[0]["val_loss"] or history[-1]["val_loss"] < 0.2


@pytest.mark.parametrize("precision", ["32-true", "bf16-mixed"])
def test_gradients_are_clipped_in_every_precision(precision):
    recipe = Recipe(
        gradient_clip=1e-9, precision=precision, optimizer="sgd", lr=1.0, weight_decay=0.0, epochs=2
    )
    model = toy_model()
    before = state(model)
    fit_in_memory(model, *toy_loaders(recipe), recipe)
    for key, value in model.state_dict().items():
        torch.testing.assert_close(value, before[key], atol=1e-7, rtol=0)


@pytest.mark.parametrize("epochs", [1, 2, 10, 11])
def test_any_number_of_steps(epochs):
    """One step an epoch; PyTorch's one-cycle schedule divides by zero at ten, and stands still at one."""
    recipe = Recipe(epochs=epochs, batch_size=64, lr=0.1)
    model = toy_model()
    before = state(model)
    assert len(fit_in_memory(model, *toy_loaders(recipe), recipe)) == epochs
    assert not same(before, state(model))


def test_a_penalty_of_the_head_is_part_of_the_loss():
    class Penalised(nn.Module):
        def __init__(self, head):
            super().__init__()
            self.head = head
            head.penalty = lambda: 1000 * head.linear.weight.square().sum()

        def forward(self, features):
            return self.head.classify(features)

    recipe = Recipe(lr=0.05, epochs=20, batch_size=8, weight_decay=0.0)
    free, held = toy_model(), Penalised(toy_model().head)
    fit_in_memory(free, *toy_loaders(recipe), recipe)
    history = fit_in_memory(held, *toy_loaders(recipe), recipe)
    assert history[0]["train_loss"] > 10
    assert held.head.linear.weight.norm() < 0.5 * free.head.linear.weight.norm()


def test_unknown_targets_are_left_out():
    recipe = Recipe(epochs=2, batch_size=8)
    features, targets = torch.randn(16, 6), torch.randint(0, 2, (16, 2)).to(torch.int8)
    targets[::2, 0] = -1
    loaders = (tensor_loader(features, targets, recipe), tensor_loader(features, targets, recipe))
    assert all(math.isfinite(row["val_mAP"]) for row in fit_in_memory(toy_model(), *loaders, recipe))


def test_a_run_that_diverges_ends_with_a_map_of_zero():
    """A trial of a search has to lose, not to stop the search."""
    recipe = Recipe(optimizer="sgd", lr=1e38, epochs=3, batch_size=8)
    history = fit_in_memory(toy_model(), *toy_loaders(recipe), recipe)
    assert history[-1]["val_mAP"] == 0
    assert not math.isfinite(history[-1]["val_loss"])


# --- the best epoch is what is left --------------------------------------------------------------------------


def test_the_weights_of_the_best_epoch_are_left_in_memory(monkeypatch):
    """The reported mAP is made up, best in epoch 1 of 4; the weights after that epoch are noted as they pass."""
    values, passed = iter([0.2, 0.9, 0.4, 0.9]), []
    monkeypatch.setattr("zoo.train.mean_average_precision", lambda scores, targets: next(values))
    recipe, model = Recipe(epochs=4, batch_size=8, lr=0.1), toy_model()
    monkeypatch.setattr(
        Classification, "on_validation_epoch_start", lambda self: passed.append(state(self.model))
    )
    history = fit_in_memory(model, *toy_loaders(recipe), recipe)
    assert [row["val_mAP"] for row in history] == [0.2, 0.9, 0.4, 0.9]
    assert same(state(model), passed[1]), "the first of the best"
    assert not same(passed[1], passed[3])


def test_the_weights_of_the_best_epoch_are_left_on_disk(colours, tmp_path, monkeypatch):
    values, passed = iter([0.2, 0.9, 0.4]), []
    monkeypatch.setattr("zoo.train.mean_average_precision", lambda scores, targets: next(values))
    monkeypatch.setattr(
        Classification, "on_validation_epoch_start", lambda self: passed.append(state(self.model))
    )
    model = tiny(COLOURS, "linear")
    run = fit(model, colours, QUICK, tmp_path, runtime=HERE, progress=False)
    assert same(state(model), passed[1])
    assert same(state(load(tmp_path / "model")), passed[1])
    assert model.notes["best_epoch"] == run.history[1]
    best, last = (
        torch.load(tmp_path / "checkpoints" / f"{name}.ckpt", weights_only=True) for name in ("best", "last")
    )
    assert (best["epoch"], last["epoch"]) == (1, 2), "the last epoch is kept though it was not better"


def test_validation_map_is_that_of_the_metrics():
    recipe, model = Recipe(epochs=1, batch_size=8), toy_model()
    train, val = toy_loaders(recipe)
    history = fit_in_memory(model, train, val, recipe)
    scores, targets = compute_scores(model, val)
    assert history[0]["val_mAP"] == pytest.approx(mean_average_precision(scores, targets))
    logits = torch.logit(scores.double())
    expected = nn.functional.binary_cross_entropy_with_logits(logits, targets.double())
    assert history[0]["val_loss"] == pytest.approx(expected.item(), rel=1e-4)


# --- what a head does before and after ------------------------------------------------------------------------


class Watching(LinearHead):
    """Notes what training tells it."""

    def begin_training(self, targets: Tensor) -> None:
        self.begun, self.at_first = targets.clone(), state(self.linear)

    def finish_training(self, logits: Tensor, targets: Tensor) -> None:
        self.finished, self.at_last = (logits.clone(), targets.clone()), state(self.linear)


@pytest.fixture
def second_epoch_is_best(monkeypatch) -> list[dict[str, Tensor]]:
    """The weights of the linear layer as each epoch's validation met them; the second is said to be the best."""
    values, passed = iter([0.2, 0.9, 0.4]), []
    monkeypatch.setattr("zoo.train.mean_average_precision", lambda scores, targets: next(values))
    monkeypatch.setattr(
        Classification, "on_validation_epoch_start", lambda self: passed.append(state(self.model.head.linear))
    )
    return passed


def test_a_head_is_told_of_training_in_memory(second_epoch_is_best):
    torch.manual_seed(0)
    model = OnFeatures(Watching(6, unlinked_labels(["dog", "cat"]), dropout=0.5))
    start = state(model.head.linear)
    train, val = toy_loaders(QUICK)
    targets = train.dataset.tensors[1]
    fit_in_memory(model, train, val, QUICK, targets)
    assert torch.equal(model.head.begun, targets)
    assert same(model.head.at_first, start)
    assert same(model.head.at_last, second_epoch_is_best[1])
    logits, seen = model.head.finished
    features, val_targets = val.dataset.tensors
    assert torch.equal(seen, val_targets)
    torch.testing.assert_close(logits, model.head.linear(features).detach(), msg="without dropout")


@pytest.mark.parametrize("freeze_backbone", [False, True])
def test_a_head_is_told_of_training(freeze_backbone, colours, tmp_path, monkeypatch, second_epoch_is_best):
    monkeypatch.setitem(HEADS, "watching", Watching)
    names = ["blue", "red", "green"]
    model = tiny(names, "watching", dropout=0.5)
    fit(model, colours, QUICK, tmp_path, freeze_backbone=freeze_backbone, runtime=HERE, progress=False)
    targets = colours.targets[:, [2, 0, 1]]
    np.testing.assert_array_equal(model.head.begun, targets[colours.splits == "train"])
    assert same(model.head.at_last, second_epoch_is_best[1])
    logits, seen = model.head.finished
    np.testing.assert_array_equal(seen, targets[colours.splits == "val"])
    expected = evaluate(model, colours.split("val"), workers=0, progress=False).scores
    torch.testing.assert_close(logits.sigmoid(), expected, atol=1e-5, rtol=1e-4)


@pytest.fixture
def alike(colours):
    """Green is where red is, whatever the photo shows, and blue where they are not."""
    red = colours.targets[:, :1]
    return replace(colours, annotations=Annotations.from_array(np.concatenate([red, red, 1 - red], axis=1)))


@pytest.mark.parametrize("freeze_backbone", [False, True])
def test_coupled_labels_end_to_end(freeze_backbone, alike, tmp_path, monkeypatch):
    """Stopped, resumed, and run through: a strength is fitted when training ends, saved, and used."""
    train = alike.split("train")
    graph = label_graph(train.targets, alike.label_names, edges="couplings", embeddings="onehot")
    recipe = replace(QUICK, lr=1e-4)  # a layer that knows little, and labels that tell much
    options = {"freeze_backbone": freeze_backbone, "runtime": HERE, "progress": False}
    whole = tiny(graph, "coupled")
    run = fit(whole, alike, recipe, tmp_path / "whole", **options)

    def stop(self: Classification) -> None:
        assert self.model.head.strength == 0, "the layer trains alone"
        if self.current_epoch == 2:
            raise _Stop

    with monkeypatch.context() as patch:
        patch.setattr(Classification, "on_train_epoch_start", stop)
        with pytest.raises(_Stop):
            fit(tiny(graph, "coupled"), alike, recipe, tmp_path / "parts", **options)
    resumed = tiny(graph, "coupled")
    resumed.head.strength.fill_(5)  # what it brings with it must not matter
    fit(resumed, alike, recipe, tmp_path / "parts", resume=True, **options)

    for model, folder in ((whole, "whole"), (resumed, "parts")):
        assert model.head.strength > 0.1
        assert model.head.positives.tolist() == [8, 8, 8]
        copy = load(tmp_path / folder / "model")
        assert same(state(copy), state(model))
        (labels,) = copy.predict(alike.images[0], known={"red": True}, top_k=3)
        assert list(labels) == ["red", "green", "blue"]
        (labels,) = copy.predict(alike.images[0], known={"red": False}, top_k=3)
        assert list(labels) == ["blue", "green", "red"]
    test = evaluate(whole, alike.split("test"), workers=0, progress=False)
    torch.testing.assert_close(run.test.scores, test.scores, msg="the test split met the fitted head")


def test_coupled_labels_on_features_in_memory(alike):
    graph = label_graph(alike.targets, alike.label_names, edges="couplings", embeddings="onehot")
    model, recipe = OnFeatures(build_head("coupled", 6, graph)), replace(QUICK, lr=1e-4)
    targets = torch.from_numpy(alike.targets)
    features = torch.randn(32, 6, generator=torch.Generator().manual_seed(0))
    train = tensor_loader(features[:16], targets[:16], recipe, shuffle=True)
    val = tensor_loader(features[16:], targets[16:], recipe)
    fit_in_memory(model, train, val, recipe, targets[:16])
    first = float(model.head.strength)
    assert first > 0.1
    assert model.head.positives.tolist() == targets[:16].sum(0).tolist()
    fit_in_memory(model, train, val, replace(recipe, epochs=1), targets[:16])
    assert model.head.strength.item() == pytest.approx(first, abs=0.2), "fitted anew, not on top"


def test_a_layer_that_diverged_stays_alone():
    recipe = Recipe(optimizer="sgd", lr=1e38, epochs=2, batch_size=8)
    targets = np.array([[1, 0], [0, 1], [1, 1], [0, 0]] * 8, dtype=np.int8)
    graph = label_graph(targets, ["dog", "cat"], edges="couplings", embeddings="onehot")
    model = OnFeatures(build_head("coupled", 6, graph))
    train, val = toy_loaders(recipe)
    fit_in_memory(model, train, val, recipe, train.dataset.tensors[1])
    assert (model.head.strength, model.head.temperature) == (0, 1)


# --- the optimiser -------------------------------------------------------------------------------------------


def optimizer_of(model: nn.Module, recipe: Recipe) -> torch.optim.Optimizer:
    module = Classification(model, recipe)
    module.trainer = type("Trainer", (), {"estimated_stepping_batches": 100})()  # type: ignore[assignment]
    return module.configure_optimizers()["optimizer"]


def test_learning_rates_and_weight_decay_of_each_parameter(colour_graph):
    model = tiny(colour_graph, pooling="gem", bias=True)
    recipe = Recipe(lr=0.01, backbone_lr_ratio=0.2, weight_decay=0.5)
    optimizer = optimizer_of(model, recipe)
    groups = {id(p): group for group in optimizer.param_groups for p in group["params"]}
    assert (
        len(groups) == sum(len(g["params"]) for g in optimizer.param_groups) == len(list(model.parameters()))
    )
    for name, parameter in model.named_parameters():
        group = groups[id(parameter)]
        highest = 0.002 if name.startswith("backbone.") else 0.01
        assert group["max_lr"] == pytest.approx(highest), name
        assert group["weight_decay"] == (0.5 if parameter.ndim > 1 else 0.0), name
    assert groups[id(model.head.pool.p)]["weight_decay"] == 0
    assert groups[id(model.head.bias)]["weight_decay"] == 0


def test_frozen_parameters_are_left_out(colour_graph):
    model = tiny(colour_graph)
    model.backbone.requires_grad_(False)
    optimizer = optimizer_of(model, Recipe())
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 2


def test_the_schedule_rises_and_falls():
    class Rates(L.Callback):
        def __init__(self):
            self.seen = []

        def on_train_batch_start(self, trainer, pl_module, batch, batch_idx):
            self.seen.append(trainer.optimizers[0].param_groups[0]["lr"])

    from zoo.evaluate import quiet_trainer

    recipe, rates = Recipe(epochs=10, batch_size=8, lr=0.1), Rates()
    trainer = quiet_trainer(max_epochs=10, enable_progress_bar=False, callbacks=[rates])
    trainer.fit(Classification(toy_model(), recipe), *toy_loaders(recipe))
    assert len(rates.seen) == 40
    assert max(rates.seen) == pytest.approx(0.1)
    top = rates.seen.index(max(rates.seen))
    assert top in (3, 4), "a tenth of the steps"
    assert rates.seen[: top + 1] == sorted(rates.seen[: top + 1])
    assert rates.seen[top:] == sorted(rates.seen[top:], reverse=True)
    assert rates.seen[-1] < 1e-3 * max(rates.seen)


def test_recipes_that_are_wrong():
    with pytest.raises(InputError, match=r"unknown optimizer 'adanw'\. Did you mean adamw"):
        Recipe(optimizer="adanw")
    for name in ("epochs", "batch_size", "lr"):
        with pytest.raises(InputError, match=f"{name} must be positive, not 0"):
            Recipe(**{name: 0.0 if name == "lr" else 0})
    with pytest.raises(InputError, match=r"unknown loss 'bcee'\. Did you mean bce"):
        replace(QUICK, loss="bcee")
    with pytest.raises(
        InputError, match=r"unknown option of the asl loss 'gama_neg'\. Did you mean gamma_neg"
    ):
        Recipe(loss="asl:gama_neg=2")
    with pytest.raises(InputError, match=r"clip must be within \[0, 1\), not 2.0"):
        Recipe(loss="asl:clip=2")


# --- seeds ---------------------------------------------------------------------------------------------------


def test_the_same_seed_gives_the_same_weights():
    def weights(seed: int) -> dict[str, Tensor]:
        recipe = replace(QUICK, seed=seed)
        model = toy_model(dropout=0.3)
        fit_in_memory(model, *toy_loaders(recipe), recipe)
        return state(model)

    assert same(weights(0), weights(0))
    assert not same(weights(0), weights(1))


@pytest.mark.parametrize("freeze_backbone", [False, True])
def test_the_same_seed_gives_the_same_run(freeze_backbone, colours, colour_graph, tmp_path):
    def weights(name: str, seed: int) -> tuple[list, dict[str, Tensor]]:
        model = tiny(colour_graph, dropout=0.2)
        torch.manual_seed(len(name))  # what went before must not matter
        run = fit(
            model,
            colours,
            replace(QUICK, seed=seed, epochs=2),
            tmp_path / name,
            freeze_backbone=freeze_backbone,
            runtime=HERE,
            progress=False,
        )
        return run.history, state(model)

    first, second, other = weights("a", 0), weights("bb", 0), weights("ccc", 1)
    assert first[0] == second[0]
    assert same(first[1], second[1])
    assert not same(first[1], other[1])


def test_loaders(colours):
    model = tiny(COLOURS, "linear")
    recipe = Recipe(batch_size=5)
    train, val = (image_loader(model, colours, split, recipe, workers=0) for split in ("train", "val"))
    assert [len(targets) for _, targets in train] == [5, 5, 5, 1]
    np.testing.assert_array_equal(torch.cat([t for _, t in val]).numpy(), colours.split("val").targets)
    first = torch.cat([t for _, t in train])
    train.sampler.set_epoch(1)
    assert not torch.equal(first, torch.cat([t for _, t in train])), "shuffled anew"

    features = torch.arange(32.0)[:, None]
    train, val = (feature_loader(features, colours, split, recipe) for split in ("train", "val"))
    assert sorted(torch.cat([x for x, _ in train])[:, 0].tolist()) == list(range(16))
    for rows, targets in train:
        np.testing.assert_array_equal(targets.numpy(), colours.targets[rows[:, 0].long().numpy()])
    assert torch.cat([x for x, _ in val])[:, 0].tolist() == list(range(16, 24))


@pytest.mark.parametrize("frozen", [False, True])
def test_resampling_draws_rare_labels_as_often_as_common_ones(frozen, colours):
    """Half of the training images have the one label, a single image has the other, the rest none."""
    targets = np.zeros_like(colours.targets)
    targets[:8, 0] = targets[8, 1] = 1
    data = replace(colours, annotations=Annotations.from_array(targets))
    model = tiny(COLOURS, "linear")

    def loader(split, **changes):
        recipe = Recipe(batch_size=5, resample=True, **changes)
        if frozen:
            return feature_loader(torch.arange(32.0)[:, None], data, split, recipe)
        return image_loader(model, data, split, recipe, workers=0)

    def epochs(loader, count):
        passes = []
        for epoch in range(count):
            if isinstance(loader.sampler, TrainingOrder):
                loader.sampler.set_epoch(epoch)
            passes.append(torch.cat([targets for _, targets in loader]))
        return torch.stack(passes)

    drawn = epochs(loader("train"), 40)
    assert drawn.shape == (40, 16, 3), "an epoch has as many images as ever"
    assert (drawn.float().mean((0, 1)) - torch.tensor([1 / 3, 1 / 3, 0])).abs().max() < 0.07
    assert not torch.equal(drawn[0], drawn[1]), "anew each epoch"
    assert torch.equal(epochs(loader("train"), 2), drawn[:2]), "the same for the same seed"
    assert not torch.equal(epochs(loader("train", seed=1), 2), drawn[:2])
    np.testing.assert_array_equal(epochs(loader("val"), 1)[0].numpy(), data.split("val").targets)


# --- the folder ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("freeze_backbone", [False, True])
def test_what_a_run_leaves(freeze_backbone, colours, colour_graph, tmp_path):
    model = tiny(colour_graph)
    model.notes["origin"] = "kept"
    output = tmp_path / "run"
    run = fit(model, colours, QUICK, output, freeze_backbone=freeze_backbone, runtime=HERE, progress=False)
    assert run.folder == output
    assert sorted(path.name for path in output.iterdir()) == [
        "checkpoints",
        "logs",
        "model",
        "test_scores.npz",
    ]
    assert sorted(path.name for path in (output / "checkpoints").iterdir()) == [
        "best.ckpt",
        "last.ckpt",
        "previous.ckpt",
    ]

    with (output / "logs" / "history.csv").open() as stream:
        rows = [{key: float(value) for key, value in row.items()} for row in csv.DictReader(stream)]
    assert rows == run.history
    assert [row["epoch"] for row in rows] == [0, 1, 2]
    assert list((output / "logs").glob("events.out.tfevents.*"))

    saved = load(output / "model")
    assert same(state(saved), state(model))
    assert saved.notes["data"] == "colours"
    assert saved.notes["origin"] == "kept"
    assert saved.notes["recipe"] == asdict(QUICK)
    assert saved.notes["best_epoch"]["val_mAP"] == max(row["val_mAP"] for row in rows)

    test = evaluate(saved, colours.split("test"), workers=0, progress=False)
    assert saved.notes["test"] == run.test.metrics() == pytest.approx(test.metrics(), nan_ok=True)
    with np.load(output / "test_scores.npz") as arrays:
        np.testing.assert_allclose(arrays["scores"], test.scores, atol=1e-5)


def test_freezing_leaves_the_backbone_as_it_was(colours, colour_graph, tmp_path):
    model = tiny(colour_graph)
    backbone, head = state(model.backbone), state(model.head)
    fit(model, colours, QUICK, tmp_path, freeze_backbone=True, runtime=HERE, progress=False)
    assert same(state(model.backbone), backbone), "batch statistics included"
    assert not torch.equal(model.head.convs[0].conv.lin.weight, head["convs.0.conv.lin.weight"])


def test_training_a_whole_model_trains_its_backbone(colours, colour_graph, tmp_path):
    model = tiny(colour_graph)
    before = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}
    fit(model, colours, QUICK, tmp_path, runtime=HERE, progress=False)
    for name, parameter in model.named_parameters():
        assert not torch.equal(parameter, before[name]), name


def test_the_graph_is_not_trained(colours, colour_graph, tmp_path):
    model = tiny(colour_graph)
    fit(model, colours, QUICK, tmp_path, runtime=HERE, progress=False)
    for key in ("x", "edge_index", "edge_weight"):
        assert torch.equal(getattr(model.head, key), colour_graph[key])


def test_data_with_its_labels_in_another_order(colours, tmp_path):
    order = [2, 0, 1]
    reordered = replace(
        colours,
        label_names=[COLOURS[i] for i in order],
        annotations=Annotations.from_array(colours.targets[:, order]),
    )
    ours, theirs = tiny(COLOURS, "linear"), tiny(COLOURS, "linear")
    fit(ours, colours, QUICK, tmp_path / "ours", freeze_backbone=True, runtime=HERE, progress=False)
    run = fit(
        theirs, reordered, QUICK, tmp_path / "theirs", freeze_backbone=True, runtime=HERE, progress=False
    )
    assert same(state(ours), state(theirs))
    assert run.test.label_names == COLOURS


def test_data_that_does_not_fit(colours, tmp_path):
    with pytest.raises(
        InputError, match=r"labels of the model and of colours differ: 1 only in the model \(pink\)"
    ):
        fit(tiny(["red", "green", "pink"], "linear"), colours, QUICK, tmp_path, runtime=HERE, progress=False)
    no_val = replace(colours, splits=np.repeat(["train", "test"], 16))
    for freeze_backbone in (False, True):
        with pytest.raises(
            InputError, match="colours has no images in split 'val': train 16, val 0, test 16"
        ):
            fit(
                tiny(COLOURS, "linear"),
                no_val,
                QUICK,
                tmp_path,
                freeze_backbone=freeze_backbone,
                runtime=HERE,
                progress=False,
            )
    assert not (tmp_path / "checkpoints").exists()


# --- resuming ------------------------------------------------------------------------------------------------


def test_a_used_folder_is_refused(colours, tmp_path):
    fit(tiny(COLOURS, "linear"), colours, QUICK, tmp_path, freeze_backbone=True, runtime=HERE, progress=False)
    with pytest.raises(
        InputError, match=r"holds a run already: choose another output, or give --resume true"
    ):
        fit(tiny(COLOURS, "linear"), colours, QUICK, tmp_path, runtime=HERE, progress=False)


def test_nothing_to_resume(colours, tmp_path):
    with pytest.raises(InputError, match=r"last\.ckpt: no checkpoint to resume from"):
        fit(
            tiny(COLOURS, "linear"),
            colours,
            QUICK,
            tmp_path / "new",
            resume=True,
            runtime=HERE,
            progress=False,
        )


class _Stop(Exception):
    pass


@pytest.fixture
def stopped(colours, tmp_path, monkeypatch) -> Path:
    """A run of six epochs that broke off in the fourth, with its best epoch long past."""

    def stop(self: Classification) -> None:
        if self.current_epoch == 3:
            raise _Stop

    values = iter([0.8, 0.3, 0.2])
    with monkeypatch.context() as patch:
        patch.setattr("zoo.train.mean_average_precision", lambda scores, targets: next(values))
        patch.setattr(Classification, "on_train_epoch_start", stop)
        with pytest.raises(_Stop):
            fit(
                tiny(COLOURS, "linear"),
                colours,
                replace(QUICK, epochs=6),
                tmp_path / "run",
                freeze_backbone=True,
                runtime=HERE,
                progress=False,
            )
    return tmp_path / "run"


def resume(folder: Path, colours, recipe: Recipe, **options):
    model = tiny(COLOURS, "linear")
    nn.init.normal_(model.head.linear.weight)  # what the head brings with it must not matter
    run = fit(
        model,
        colours,
        recipe,
        folder,
        freeze_backbone=True,
        resume=True,
        runtime=HERE,
        progress=False,
        **options,
    )
    return model, run


def test_resuming_goes_on_after_the_last_epoch(stopped, colours, monkeypatch):
    started: list[tuple[int, dict[str, Tensor]]] = []
    monkeypatch.setattr(
        Classification, "on_train_epoch_start", lambda self: started.append((self.current_epoch, state(self)))
    )
    last = torch.load(stopped / "checkpoints" / "last.ckpt", weights_only=True)
    model, run = resume(stopped, colours, replace(QUICK, epochs=6))
    assert [epoch for epoch, _ in started] == [3, 4, 5]
    assert same(started[0][1], last["state_dict"]), "and with the last weights, not the best"
    assert [row["epoch"] for row in run.history] == [0, 1, 2, 3, 4, 5]
    assert [row["val_mAP"] for row in run.history[:3]] == [0.8, 0.3, 0.2], "what was before is kept"
    with (stopped / "logs" / "history.csv").open() as stream:
        assert len(list(csv.DictReader(stream))) == 6
    assert sorted(path.name for path in (stopped / "checkpoints").iterdir()) == [
        "best.ckpt",
        "last.ckpt",
        "previous.ckpt",
    ]
    assert same(state(load(stopped / "model")), state(model))


def test_resuming_remembers_the_best_epoch(stopped, colours, monkeypatch):
    monkeypatch.setattr("zoo.train.mean_average_precision", lambda scores, targets: 0.5)
    best = torch.load(stopped / "checkpoints" / "best.ckpt", weights_only=True)
    assert best["epoch"] == 0
    model, _ = resume(stopped, colours, replace(QUICK, epochs=6))
    assert model.notes["best_epoch"]["val_mAP"] == 0.8
    assert torch.equal(model.head.linear.weight, best["state_dict"]["model.head.linear.weight"])


def test_resuming_a_run_that_is_finished(colours, tmp_path):
    first = tiny(COLOURS, "linear")
    run = fit(first, colours, QUICK, tmp_path, freeze_backbone=True, runtime=HERE, progress=False)
    second, again = resume(tmp_path, colours, QUICK)
    assert again.history == run.history
    assert same(state(first), state(second))


def test_resuming_with_another_recipe_is_refused(stopped, colours):
    with pytest.raises(InputError, match=r"started with epochs 6, not 9: resume it with the same recipe"):
        resume(stopped, colours, replace(QUICK, epochs=9))
    with pytest.raises(InputError, match=r"started with batch_size 8, not 4, lr 0\.01, not 0\.5"):
        resume(stopped, colours, replace(QUICK, epochs=6, lr=0.5, batch_size=4))


@pytest.mark.parametrize("freeze_backbone", [False, True])
def test_a_loss_that_counts_labels_trains_and_resumes(freeze_backbone, colours, tmp_path, monkeypatch):
    """With the counts of the training split, in the order of the model's labels."""
    names = ["blue", "red", "green"]
    targets = colours.targets.copy()
    targets[:5, 2], targets[16:, 2] = -1, 1
    data, counted = replace(colours, annotations=Annotations.from_array(targets)), []
    monkeypatch.setattr(
        Classification, "on_train_start", lambda self: counted.append(self.loss.label_counts.tolist())
    )
    recipe = replace(QUICK, epochs=2, loss="distribution-balanced:mu=0.3", resample=True)
    options = {"freeze_backbone": freeze_backbone, "runtime": HERE, "progress": False}
    run = fit(tiny(names, "linear"), data, recipe, tmp_path, **options)
    assert all(math.isfinite(value) for row in run.history for value in row.values())
    again = fit(tiny(names, "linear"), data, recipe, tmp_path, resume=True, **options)
    assert again.history == run.history
    train = targets[:16][:, [2, 0, 1]]
    assert counted[0] == [(train == 1).sum(0).tolist(), (train == 0).sum(0).tolist()]
    assert load(tmp_path / "model").notes["recipe"]["loss"] == "distribution-balanced:mu=0.3"
    with pytest.raises(InputError, match=r"started with loss 'distribution-balanced:mu=0\.3', not 'bce'"):
        fit(tiny(names, "linear"), data, replace(recipe, loss="bce"), tmp_path, resume=True, **options)


class _Bomb:
    def __reduce__(self):
        return (Path.touch, (Path("exploded"),))


def test_checkpoints_are_not_unpickled(stopped, colours, monkeypatch):
    monkeypatch.chdir(stopped)
    checkpoint = torch.load(stopped / "checkpoints" / "last.ckpt", weights_only=True)
    torch.save(checkpoint | {"history": _Bomb()}, stopped / "checkpoints" / "last.ckpt")
    with pytest.raises(
        Exception, match=r"last\.ckpt: refused, it holds .*getattr, and reading that would run code"
    ):
        resume(stopped, colours, replace(QUICK, epochs=6))
    assert not Path("exploded").exists()
