"""The main job, end to end, on 32 generated images and a tiny backbone."""

from __future__ import annotations

import shutil
import sys
from dataclasses import replace

import numpy as np
import pytest
import torch

import zoo
from zoo import bench, run_store
from zoo.annotations import Annotations
from zoo.comparison import Protocol, compare
from zoo.controls import control
from zoo.entry import default_entries
from zoo.evaluate import evaluate
from zoo.graph import label_graph
from zoo.heads import HEADS
from zoo.lookup import InputError
from zoo.losses import LOSSES
from zoo.metrics import mean_average_precision
from zoo.protocol import EXPLORING
from zoo.regimes import draw
from zoo.user_modules import import_module_file

BACKBONE = "test_efficientnet"
TWO = (f"linear-{BACKBONE}", f"mlgcn-{BACKBONE}:widths=[16]")
QUICK = Protocol(trials=2, seeds=2, epochs=1, embeddings="random", threshold=0.55)


@pytest.fixture(scope="module")
def photos(colours):
    """32 images with one label more, "several", and splits in which labels go together unequally often."""
    targets = np.c_[colours.targets, colours.targets.sum(1) > 1].astype(np.int8)
    splits = np.random.default_rng(0).permutation(colours.splits)
    return replace(
        colours,
        annotations=Annotations.from_array(targets),
        label_names=[*colours.label_names, "several"],
        splits=splits,
    )


class Spy:
    """What the runs of a comparison did: (split, lr, weight_decay, seed) of each loader, and the trainings."""

    def __init__(self, monkeypatch, stop_at: int = 0, error: BaseException | None = None) -> None:
        self.loaders, self.fits = [], 0
        loader, fit = bench.feature_loader, bench.fit_in_memory

        def spy_loader(features, data, split, recipe):
            self.loaders.append((split, recipe.lr, recipe.weight_decay, recipe.seed))
            return loader(features, data, split, recipe)

        def spy_fit(*arguments):
            self.fits += 1
            if self.fits == stop_at:
                raise error
            return fit(*arguments)

        monkeypatch.setattr(bench, "feature_loader", spy_loader)
        monkeypatch.setattr(bench, "fit_in_memory", spy_fit)


def run(photos, output, models=TWO, *, protocol=QUICK, controls=False, **options):
    return compare(
        photos, models, protocol=protocol, controls=controls, pretrained=False, output=output, workers=0, **options
    )  # fmt: skip


def results(done):
    """Everything that a comparison found, without what it cannot find twice: the time it took."""
    rows = [row for result in done.results for row in [*result.trials, *result.runs]]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in rows]


@pytest.fixture(scope="module")
def finished(photos, tmp_path_factory):
    """The default comparison, what it did, and its folder."""
    output = tmp_path_factory.mktemp("finished")
    models = [entry.name for entry in default_entries(BACKBONE, controls=False)]
    with pytest.MonkeyPatch.context() as patch:
        spy = Spy(patch)
        return run(photos, output, models, controls=True), spy, output, models


# --- the protocol ------------------------------------------------------------------------------------------


def search(protocol, score):
    """The points of a whole search whose trials have the validation mAP that ``score(lr, weight_decay)`` says."""
    trials: list[dict[str, float]] = []
    for _ in range(protocol.trials):
        lr, decay = protocol.next_point(trials)
        trials.append({"lr": lr, "weight_decay": decay, "val_mAP": score(lr, decay)})
    return [(row["lr"], row["weight_decay"]) for row in trials]


def share(values, ends):
    """Where values lie between the ends of a range, on a logarithmic scale, from 0 to 1."""
    return np.log(np.array(values) / ends[0]) / np.log(ends[1] / ends[0])


def test_the_search_explores_the_ranges_evenly_and_alike_for_every_entry():
    protocol = Protocol(trials=EXPLORING, lr=(1e-4, 1e-1), weight_decay=(1e-3, 1e1))
    points = search(protocol, lambda lr, decay: lr)
    assert points == search(replace(protocol, seeds=9, epochs=1), lambda lr, decay: -lr)
    for values, ends in zip(zip(*points, strict=True), (protocol.lr, protocol.weight_decay), strict=True):
        quarters = (share(values, ends) * EXPLORING).astype(int)
        assert sorted(quarters) == list(range(EXPLORING)), "one point in each quarter of a range"


@pytest.mark.parametrize("wanted", [(1e-4, 1e-3), (3e-3, 0.1), (1e-1, 1e1)])
def test_the_search_goes_on_near_its_best_point_and_within_the_ranges(wanted):
    protocol = Protocol(trials=20, lr=(1e-4, 1e-1), weight_decay=(1e-3, 1e1))

    def score(lr, decay):
        return -abs(np.log10(lr / wanted[0])) - abs(np.log10(decay / wanted[1]))

    points = search(protocol, score)
    for trials in (1, 3, 4, 5, 19):
        assert search(replace(protocol, trials=trials), score) == points[:trials], "a longer search goes on"
    for i, point in enumerate(points):
        best = max(points[:i], key=lambda p: score(*p), default=None)
        for value, ends, near in zip(
            point, (protocol.lr, protocol.weight_decay), best or (1, 1), strict=True
        ):
            assert ends[0] <= value <= ends[1]
            if i >= EXPLORING:
                assert abs(share(value, ends) - share(near, ends)) < 1 / 8 + 1e-3
    assert max(score(*p) for p in points) > max(score(*p) for p in points[:EXPLORING])


def test_a_range_of_one_value_is_that_value():
    points = search(
        Protocol(trials=6, lr=(0.0123456, 0.0123456), weight_decay=(1e-3, 1.0)), lambda lr, decay: decay
    )
    assert {lr for lr, _ in points} == {0.0123456}
    assert len({decay for _, decay in points}) == 6


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"trials": 0}, "trials must be at least 1, not 0"),
        ({"seeds": -1}, "seeds must be at least 1, not -1"),
        ({"lr": (0.1, 0.01)}, "lr must be a range of positive numbers, low then high, not 0.1, 0.01"),
        ({"weight_decay": (0.0, 1.0)}, "weight_decay must be a range of positive numbers"),
        ({"loss": "bec"}, "unknown loss 'bec'. Did you mean bce"),
        ({"loss": "focal:gama=1"}, "unknown option of the focal loss 'gama'. Did you mean gamma"),
        ({"loss": "focal:gamma=-1"}, "gamma must be finite and not negative, not -1.0"),
    ],
)
def test_protocol_refuses(options, message):
    with pytest.raises(InputError, match=message):
        Protocol(**options)


# --- end to end --------------------------------------------------------------------------------------------


def test_a_row_for_every_entry(finished):
    done, spy, _, _ = finished
    assert [result.name for result in done.results] == [entry.name for entry in default_entries(BACKBONE)]
    assert spy.fits == 9 * (QUICK.trials + QUICK.seeds)
    for result in done.results:
        assert [QUICK.next_point(result.trials[:i]) for i in range(QUICK.trials)] == [
            (row["lr"], row["weight_decay"]) for row in result.trials
        ]
        assert [row["seed"] for row in result.runs] == [0, 1]
        assert not any(key.startswith("test_") for row in result.trials for key in row)
        best = max(result.trials, key=lambda row: row["val_mAP"])
        for row in result.runs:
            assert (row["lr"], row["weight_decay"]) == (best["lr"], best["weight_decay"])
            assert 0 <= row["test_mAP"] <= 1
        assert [tuple(scores.shape) for scores in result.scores] == [(8, 4), (8, 4)]


def test_only_the_seeds_of_the_best_point_read_the_test_split(finished):
    done, spy, _, _ = finished
    read = [loader[1:] for loader in spy.loaders if loader[0] == "test"]
    assert read == [(r["lr"], r["weight_decay"], r["seed"]) for result in done.results for r in result.runs]
    assert sum(loader[0] == "val" for loader in spy.loaders) == spy.fits


def test_stored_scores_give_the_reported_metrics(finished, photos):
    done, _, _, _ = finished
    from sklearn.metrics import average_precision_score

    targets = photos.split("test").targets
    assert all((one.numpy() == targets).all() for one in done.targets)
    for result in done.results:
        for row, scores in zip(result.runs, result.scores, strict=True):
            expected = average_precision_score(targets, scores.numpy(), average="macro")
            assert row["test_mAP"] == pytest.approx(expected, abs=1e-6)


def test_the_graph_is_counted_from_the_training_split(finished, photos):
    train = photos.split("train")
    expected = label_graph(train.targets, train.label_names, embeddings="random", threshold=0.55)
    for key in ("x", "edge_index", "edge_weight"):
        assert torch.equal(finished[0].graph[key], expected[key])
    everything = label_graph(photos.targets, photos.label_names, embeddings="random", threshold=0.55)
    assert everything.num_edges != expected.num_edges, "else this test shows nothing"


def test_a_second_call_trains_nothing(finished, photos, monkeypatch):
    done, _, output, models = finished
    spy = Spy(monkeypatch)
    again = run(photos, output, models, controls=True)
    assert spy.fits == 0
    assert spy.loaders == []
    assert results(again) == results(done)
    assert again.table().row_count == 9


def test_more_trials_and_seeds_take_over_what_is_there(finished, photos, tmp_path, monkeypatch):
    done, _, output, models = finished
    shutil.copytree(output / "runs", tmp_path / "runs")
    spy = Spy(monkeypatch)
    more = run(photos, tmp_path, models[:1], protocol=replace(QUICK, trials=3, seeds=3))
    assert results(more)[:2] == results(done)[:2]
    assert spy.fits in (2, 4), "one trial and one seed; all three seeds where the new point is the best"


def test_best_model_loads_and_predicts(finished, photos):
    done, _, output, _ = finished
    model = zoo.load(output / "best_model")
    assert model.label_names == photos.label_names
    assert model.notes["run"]["entry"] == done.winner.name
    scores = evaluate(model, photos.split("test"), workers=0, progress=False).scores
    torch.testing.assert_close(scores, done.winner.scores[0], atol=1e-5, rtol=1e-4)
    (labels,) = model.predict(photos.images[0], top_k=2)
    assert set(labels) < set(photos.label_names)


def test_controls_are_made_from_the_graph(photos, tmp_path, monkeypatch):
    """Each entry is given its own graph: shuffled anew by every seed, the identity always the same."""
    seen = []
    assemble = bench.assemble

    def spy(backbone, head, graph, **options):
        if head == "mlgcn":  # the baselines beside it are given no graph
            seen.append((graph.recipe.get("control", "real"), graph.edge_index, graph.x))
        return assemble(backbone, head, graph, **options)

    monkeypatch.setattr(bench, "assemble", spy)
    protocol = replace(QUICK, trials=1, epochs=1)
    done = run(photos, tmp_path, TWO[1:], protocol=protocol, controls=True)
    assert {name for name, _, _ in seen} == {"real", "identity", "shuffled", "random_vectors"}
    vectors = [x for name, _, x in seen if name == "random_vectors"]
    for seed in (0, 1):
        expected = control(done.graph, "random_vectors", seed).x
        assert any(torch.equal(x, expected) for x in vectors)
    assert all(
        torch.equal(x, done.graph.x) for name, _, x in seen if name in ("identity", "shuffled", "real")
    )
    assert all(edges.shape == (2, 4) for name, edges, _ in seen if name == "identity")


def test_each_head_has_its_own_kind_of_graph(photos, tmp_path, monkeypatch):
    """Couplings for one, conditional probabilities for another, and controls of what the first was given."""
    seen = {}
    assemble = bench.assemble

    def spy(backbone, head, graph, **options):
        seen.setdefault((head, graph.recipe.get("control", "real")), []).append(graph)
        return assemble(backbone, head, graph, **options)

    monkeypatch.setattr(bench, "assemble", spy)
    protocol, models = replace(QUICK, trials=1, epochs=2), (f"coupled-{BACKBONE}", TWO[1])
    done = run(photos, tmp_path, models, protocol=protocol, controls=True)
    assert {name for name in seen if name[0] in ("coupled", "mlgcn")} == {
        ("coupled", name) for name in ("real", "identity", "shuffled", "random_vectors")
    } | {("mlgcn", "real")}
    train = photos.split("train")
    options = {"embeddings": "random", "threshold": QUICK.threshold}
    for head, edges in (("coupled", "couplings"), ("mlgcn", "conditional")):
        expected = label_graph(train.targets, train.label_names, edges=edges, **options)
        assert expected.recipe["edges"] == edges
        for graph in seen[head, "real"]:
            assert graph.recipe == expected.recipe
            assert torch.equal(graph.edge_weight, expected.edge_weight)
            if edges == "conditional":
                assert torch.equal(graph.edge_weight, done.graph.edge_weight), "the graph of the report"
    assert all(graph.recipe["edges"] == "couplings" for graph in seen["coupled", "shuffled"])
    assert all(graph.num_edges == 4 for graph in seen["coupled", "identity"])
    assert len(done.results) == 8


def test_the_best_model_keeps_what_was_fitted_at_the_end(photos, tmp_path):
    """The test scores of a run are those of the fitted head, and so are those of the model that is left."""
    targets = np.repeat(photos.targets[:, :1], 4, axis=1)  # one label under four names
    alike = replace(photos, annotations=Annotations.from_array(targets))
    done = run(
        alike, tmp_path, [f"coupled-{BACKBONE}"], protocol=replace(QUICK, trials=1, seeds=1, lr=(1e-4, 1e-4))
    )
    model = zoo.load(tmp_path / "best_model")
    assert model.head.strength > 0.1
    assert (model.head.positives == targets[photos.splits == "train", 0].sum()).all()
    scores = evaluate(model, alike.split("test"), workers=0, progress=False).scores
    torch.testing.assert_close(scores, done.winner.scores[0], atol=1e-5, rtol=1e-4)


# --- honesty -----------------------------------------------------------------------------------------------


def test_test_targets_decide_nothing(finished, photos, tmp_path):
    """With every test label turned around, all that is chosen stays: points, winner, baseline, graph, model."""
    done, _, _, models = finished
    targets = photos.targets.copy()
    targets[photos.splits == "test"] = 1 - targets[photos.splits == "test"]
    turned = run(replace(photos, annotations=Annotations.from_array(targets)), tmp_path, models)
    before = {result.name: result for result in done.results}
    for result in turned.results:
        pairs = zip(
            result.trials + result.runs, before[result.name].trials + before[result.name].runs, strict=True
        )
        for row, old in pairs:
            assert row["val_mAP"] == old["val_mAP"]
            assert (row["lr"], row["weight_decay"]) == (old["lr"], old["weight_decay"])
        assert result.values() != before[result.name].values()
    assert turned.winner.name == done.winner.name
    assert turned.baseline.name == done.baseline.name
    assert torch.equal(turned.graph.edge_weight, done.graph.edge_weight)
    states = (zoo.load(folder / "best_model").state_dict() for folder in (tmp_path, finished[2]))
    assert all(torch.equal(a, b) for a, b in zip(*(state.values() for state in states), strict=True))


@pytest.mark.parametrize("error", [RuntimeError("killed"), KeyboardInterrupt()])
def test_killed_and_resumed_equals_uninterrupted_in_another_place(photos, tmp_path, monkeypatch, error):
    """Two fresh caches and folders, one of them stopped in its sixth run and started again."""
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache 1"))
    whole = run(photos, tmp_path / "whole")
    monkeypatch.setenv("ZOO_CACHE", str(tmp_path / "cache 2"))
    torch.manual_seed(4711)  # the caller's random state is none of its business
    with monkeypatch.context() as patch:
        Spy(patch, stop_at=6, error=error)
        with pytest.raises(type(error)):
            run(photos, tmp_path / "resumed")
    assert len(list((tmp_path / "resumed" / "runs").glob("*.json"))) == 5
    assert not (tmp_path / "resumed" / "report.md").exists()
    spy = Spy(monkeypatch)
    resumed = run(photos, tmp_path / "resumed")
    assert spy.fits == 3
    assert results(resumed) == results(whole)
    for one, other in zip(resumed.results, whole.results, strict=True):
        assert all(torch.equal(a, b) for a, b in zip(one.scores, other.scores, strict=True))


def test_a_run_stopped_while_it_is_written_counts_for_nothing(photos, tmp_path, monkeypatch):
    protocol = replace(QUICK, trials=1, seeds=1, epochs=1)
    with monkeypatch.context() as patch:
        patch.setattr(run_store.os, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            run(photos, tmp_path, TWO[:1], protocol=protocol)
    spy = Spy(monkeypatch)
    run(photos, tmp_path, TWO[:1], protocol=protocol)
    assert spy.fits == 2


def test_a_run_that_diverges_loses_and_ends_nothing(photos, tmp_path):
    protocol = Protocol(
        trials=2, seeds=1, epochs=2, embeddings="random", lr=(1e30, 1e38), weight_decay=(1e30, 1e38)
    )
    done = run(photos, tmp_path, protocol=protocol)
    assert all(0 <= value <= 1 for result in done.results for value in result.values())
    assert all(scores.isfinite().all() for result in done.results for scores in result.scores)


# --- whole models ------------------------------------------------------------------------------------------


def test_fine_tuning_trains_the_backbone_and_repeats(photos, tmp_path):
    protocol = Protocol(
        trials=1, seeds=2, epochs=1, batch_size=16, embeddings="random", freeze_backbone=False
    )
    first = run(photos, tmp_path / "1", TWO[1:], protocol=protocol)
    torch.manual_seed(4711)
    assert results(run(photos, tmp_path / "2", TWO[1:], protocol=protocol)) == results(first)
    model = zoo.load(tmp_path / "1" / "best_model")
    scores = evaluate(model, photos.split("test"), workers=0, progress=False).scores
    torch.testing.assert_close(scores, first.results[0].scores[0], atol=1e-5, rtol=1e-4)
    torch.manual_seed(0)
    fresh = zoo.build(TWO[1].partition(":")[0], first.graph, widths=[16]).backbone.state_dict()
    trained = model.backbone.state_dict()
    assert any(not torch.equal(fresh[key], trained[key]) for key in fresh if key.endswith("weight"))
    assert not torch.equal(first.results[0].scores[0], first.results[0].scores[1])


# --- what makes a run another run --------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 2},
        {"batch_size": 4},
        {"threshold": 0.9},
        {"loss": "softmargin"},
        {"loss": "bce:pos_weight=2"},
    ],
)
def test_another_protocol_is_another_run(finished, photos, tmp_path, monkeypatch, change):
    shutil.copytree(finished[2] / "runs", tmp_path / "runs")
    spy = Spy(monkeypatch)
    run(photos, tmp_path, [f"linear-{BACKBONE}"], protocol=replace(QUICK, trials=1, seeds=1, **change))
    assert spy.fits == 2


def test_another_file_of_weights_is_another_run(photos, tmp_path, monkeypatch):
    from safetensors.torch import save_file

    weights = zoo.build(f"linear-{BACKBONE}", ["a"]).backbone.model.state_dict()
    spy = Spy(monkeypatch)
    counts = []
    for factor in (1.0, 1.0, 0.5):
        scaled = {k: v * factor if v.is_floating_point() else v for k, v in weights.items()}
        save_file(scaled, tmp_path / "weights.safetensors")
        compare(
            photos,
            TWO[:1],
            protocol=replace(QUICK, trials=1, seeds=1, epochs=1),
            pretrained=tmp_path / "weights.safetensors",
            output=tmp_path / "out",
            workers=0,
        )
        counts.append(spy.fits)
    assert counts == [2, 2, 4]


OWN_HEAD = """
from zoo.heads import HEADS
from zoo.heads.linear import LinearHead

class Scaled(LinearHead):
    def classify(self, features):
        return {factor} * super().classify(features)

HEADS["scaled"] = Scaled
"""


def test_a_changed_head_of_ones_own_is_another_run(photos, tmp_path, monkeypatch):
    file, spy, counts = tmp_path / "my_head.py", Spy(monkeypatch), []
    monkeypatch.setitem(HEADS, "scaled", None)  # and take it out again afterwards
    for factor in (1.0, 1.0, 5.0):
        file.write_text(OWN_HEAD.format(factor=factor))
        sys.modules.pop("zoo_import_my_head", None)
        import_module_file(file)
        protocol = replace(QUICK, trials=1, seeds=1, epochs=1)
        run(photos, tmp_path / "out", [f"scaled-{BACKBONE}"], protocol=protocol)
        counts.append(spy.fits)
    sys.modules.pop("zoo_import_my_head")
    assert counts == [2, 2, 4]


OWN_LOSS = """
from zoo.losses import LOSSES, BCELoss

class Counted(BCELoss):
    def __init__(self, label_counts, power: float = 1.0):
        super().__init__(pos_weight={factor} * (label_counts[1] / label_counts[0]) ** power)
        Counted.seen = label_counts

LOSSES["counted"] = Counted
"""


def test_a_changed_loss_of_ones_own_is_another_run(photos, tmp_path, monkeypatch):
    file, spy, counts = tmp_path / "my_loss.py", Spy(monkeypatch), []
    monkeypatch.setitem(LOSSES, "counted", None)  # and take it out again afterwards
    for factor in (1.0, 1.0, 5.0):
        file.write_text(OWN_LOSS.format(factor=factor))
        sys.modules.pop("zoo_import_my_loss", None)
        import_module_file(file)
        protocol = replace(QUICK, trials=1, seeds=1, epochs=1, loss="counted:power=0.5")
        run(photos, tmp_path / "out", TWO[:1], protocol=protocol)
        counts.append(spy.fits)
    module = sys.modules.pop("zoo_import_my_loss")
    assert counts == [2, 2, 4]
    train = photos.split("train").targets
    assert module.Counted.seen.tolist() == [(train == 1).sum(0).tolist(), (train == 0).sum(0).tolist()]


# --- labels that are known, and labels that are tested ------------------------------------------------------


def test_known_labels_are_told_to_who_can_use_them_and_asked_of_nobody(photos, tmp_path):
    models = [f"linear-{BACKBONE}", f"coupled-{BACKBONE}"]
    plain = run(photos, tmp_path, models)
    told = run(photos, tmp_path, models, protocol=replace(QUICK, known=0.5))
    truth = torch.from_numpy(photos.split("test").targets)
    for seed, asked in enumerate(told.targets):
        hidden = torch.rand(truth.shape, generator=torch.Generator().manual_seed(seed)) >= 0.5
        assert torch.equal(asked, truth.where(hidden, -1))
        linear, coupled = (result.scores[seed] for result in told.results)
        assert torch.equal(linear, plain.results[0].scores[seed]), "it cannot take them"
        assert torch.equal(coupled[~hidden] > 0.5, truth[~hidden] == 1), "it repeats what it was told"
        assert told.results[0].runs[seed]["test_mAP"] == pytest.approx(mean_average_precision(linear, asked))
    assert not torch.equal(*told.targets)


def test_a_model_is_chosen_by_what_is_known_at_test_time_too(photos, tmp_path):
    models = [f"linear-{BACKBONE}", f"coupled-{BACKBONE}"]
    plain = run(photos, tmp_path, models)
    protocol = replace(QUICK, known=0.5)
    told = run(photos, tmp_path, models, protocol=protocol)
    truth = torch.from_numpy(photos.split("val").targets)
    asker = bench.Bench(photos, protocol, False, 0)
    for seed in range(protocol.seeds):
        hidden = torch.rand(truth.shape, generator=torch.Generator().manual_seed(seed)) >= 0.5
        asked = asker.question(seed, "val")
        assert torch.equal(asked.targets, truth.where(hidden, -1))
        assert torch.equal(asked.facts, truth.where(~hidden, -1))
        for before, after in zip(plain.results, told.results, strict=True):
            assert before.runs[seed]["best_epoch"] == after.runs[seed]["best_epoch"]
            assert before.runs[seed]["val_mAP"] != after.runs[seed]["val_mAP"]


def test_one_search_serves_whatever_is_known_at_test_time(photos, tmp_path, monkeypatch):
    spy = Spy(monkeypatch)
    run(photos, tmp_path, TWO[:1])
    assert spy.fits == QUICK.trials + QUICK.seeds
    run(photos, tmp_path, TWO[:1], protocol=replace(QUICK, known=0.5))
    assert spy.fits == QUICK.trials + 2 * QUICK.seeds


def test_a_regime_says_which_labels_are_tested(photos, tmp_path):
    regime = "rare:positives=1:common=4"
    done = run(photos, tmp_path, TWO[:1], protocol=replace(QUICK, regime=regime))
    truth = torch.from_numpy(photos.split("test").targets)
    for seed, asked in enumerate(done.targets):
        labels = draw(regime, photos.split("train"), seed).labels
        others = [label for label in range(truth.size(1)) if label not in labels]
        assert torch.equal(asked[:, labels], truth[:, labels])
        assert (asked[:, others] == -1).all()


# --- the words of errors -----------------------------------------------------------------------------------


def test_what_cannot_be_compared(photos, tmp_path):
    with pytest.raises(InputError, match="no model to compare"):
        run(photos, tmp_path, [])
    with pytest.raises(InputError, match=r"unknown head 'mlgnc'\. Did you mean mlgcn"):
        run(photos, tmp_path, ["mlgnc-resnet18"])
    with pytest.raises(InputError, match=r"unknown conv 'GATCov'\. Did you mean GATConv"):
        run(photos, tmp_path, [f"mlgcn-{BACKBONE}:conv=GATCov"])
    with pytest.raises(InputError, match=r"known is a share of the labels, at least 0 and below 1, not 1"):
        replace(QUICK, known=1.0)
    with pytest.raises(InputError, match=r"no such file of weights"):
        compare(photos, TWO, pretrained=tmp_path / "none.safetensors", output=tmp_path)
    lacking = replace(photos, splits=np.where(photos.splits == "val", "train", photos.splits))
    with pytest.raises(InputError, match="colours has no images in split 'val': train 24, val 0, test 8"):
        run(lacking, tmp_path)
    negative = photos.targets.copy()
    negative[photos.splits == "test"] = 0
    with pytest.raises(InputError, match="colours: no image of split 'test' is positive for any label"):
        run(replace(photos, annotations=Annotations.from_array(negative)), tmp_path)
