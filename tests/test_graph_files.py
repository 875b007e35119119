"""Label graphs on disk: exact round trips, damaged files, and pickles that are read without being trusted."""

from __future__ import annotations

import io
import json
import os
import pickle
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from torch_geometric.data import Data

from zoo.counts import count_labels
from zoo.graph import label_graph, unlinked_labels
from zoo.graph_files import import_mlgcn_pickle, import_mlgcn_vectors, load_graph, save_graph
from zoo.label_spaces import label_counts
from zoo.lookup import InputError

SEASIDE = [["Sea", "Sky"], ["Sea", "Sky", "Sunset"], ["Sky", "Clöud 雲"], ["Sunset"]]


@pytest.fixture
def graph() -> Data:
    vectors = np.random.default_rng(0).standard_normal((4, 5)) / 3
    return label_graph(SEASIDE, threshold=0.3, embeddings=vectors)


def assert_same(left: Data, right: Data) -> None:
    assert left.label_names == right.label_names
    assert left.recipe == right.recipe
    assert left.num_nodes == right.num_nodes
    for key in ("x", "edge_index", "edge_weight"):
        assert (left.get(key) is None) == (right.get(key) is None)
        if left.get(key) is not None:
            assert left[key].dtype == right[key].dtype
            assert torch.equal(left[key], right[key])


@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_a_graph_comes_back_exactly(suffix: str, graph: Data, tmp_path: Path) -> None:
    path = tmp_path / "new" / "folders" / f"graph{suffix}"
    assert save_graph(graph, path) == path
    assert_same(load_graph(path), graph)
    assert_same(load_graph(str(path)), graph)


@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_labels_without_edges_or_vectors_come_back(suffix: str, tmp_path: Path) -> None:
    alone = unlinked_labels(["a", "b", "c"])
    assert_same(load_graph(save_graph(alone, tmp_path / f"graph{suffix}")), alone)


@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_a_large_graph_comes_back_exactly(suffix: str, tmp_path: Path) -> None:
    coco = label_graph(label_counts("coco2014"), threshold=0.05)
    assert_same(load_graph(save_graph(coco, tmp_path / f"graph{suffix}")), coco)


def test_json_is_made_to_be_read(graph: Data, tmp_path: Path) -> None:
    content = json.loads(save_graph(graph, tmp_path / "graph.json").read_text())
    assert content["label_names"] == ["Clöud 雲", "Sea", "Sky", "Sunset"]
    assert content["recipe"]["threshold"] == 0.3
    assert content["edges"][0] == [0, 0, graph.edge_weight[0].item()]
    assert len(content["edges"]) == graph.num_edges


def test_saving_refuses_other_formats_and_what_is_no_graph(graph: Data, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"graph\.pt: a label graph is saved as \.json or \.npz"):
        save_graph(graph, tmp_path / "somewhere" / "graph.pt")
    assert not (tmp_path / "somewhere").exists()
    graph.edge_weight = graph.edge_weight[:-1]
    with pytest.raises(InputError, match="not a label graph: edge_weight must be"):
        save_graph(graph, tmp_path / "graph.json")


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("graph.pkl", "pickles can run code and are not loaded.*import_mlgcn_pickle.*json or .npz"),
        ("graph.pt", "pickles can run code and are not loaded"),
        ("graph.csv", r"graph.csv: a label graph is a \.json or \.npz file"),
        ("graph", r"a label graph is a \.json or \.npz file"),
    ],
)
def test_loading_refuses_other_formats(name: str, words: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(b"something")
    with pytest.raises(InputError, match=words):
        load_graph(tmp_path / name)


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.json: no such file"):
        load_graph(tmp_path / "nowhere.json")


NO_GRAPH = "not a label graph saved by this package"


def _changed(**fields: object) -> Callable[[dict], object]:
    return lambda content: {**content, **fields}


def _without(key: str) -> Callable[[dict], object]:
    return lambda content: {k: v for k, v in content.items() if k != key}


DAMAGED_JSON: dict[str, tuple[Callable[[dict], object], str]] = {
    "a list": (lambda content: [1, 2], NO_GRAPH),
    "a number": (lambda content: 7, NO_GRAPH),
    "no edges": (_without("edges"), f"{NO_GRAPH} \\('edges'\\)"),
    "no names": (_without("label_names"), f"{NO_GRAPH} \\('label_names'\\)"),
    "no vectors": (_without("x"), f"{NO_GRAPH} \\('x'\\)"),
    "ragged edges": (_changed(edges=[[0, 0, 1.0], [1, 1]]), NO_GRAPH),
    "edges of pairs": (_changed(edges=[[0, 0], [1, 1]]), NO_GRAPH),
    "words for weights": (_changed(edges=[[0, 0, "much"]]), NO_GRAPH),
    "null for a weight": (_changed(edges=[[0, 0, None]]), "graph.json: .*not a label graph"),
    "null for edges": (_changed(edges=None), "graph.json: .*not a label graph"),
    "half a label": (_changed(edges=[[0, 0.5, 1.0]]), "the ends of an edge must be whole numbers"),
    "NaN for a label": (_changed(edges=[[0, float("nan"), 1.0]]), "must be whole numbers"),
    "giant label": (_changed(edges=[[0, 10**400, 1.0]]), NO_GRAPH),
    "label beyond the last": (
        _changed(edges=[[0, 9, 1.0]]),
        r"not a label graph: edge_index must lie in 0..3",
    ),
    "endless weight": (
        _changed(edges=[[0, 0, float("inf")]]),
        "edge_weight holds values that are not finite",
    ),
    "no edges left": (_changed(edges=[]), "every label needs its self-loop; 4 are missing"),
    "names twice": (_changed(label_names=["a", "a", "b", "c"]), "must be unique; more than once: a"),
    "a number of names": (_changed(label_names=4), NO_GRAPH),
    "one name": (_changed(label_names="four"), "must be a list of names, not the one name 'four'"),
    "null for names": (_changed(label_names=None), NO_GRAPH),
    "ragged vectors": (_changed(x=[[1.0], [1.0, 2.0], [1.0], [1.0]]), NO_GRAPH),
    "vectors too few": (_changed(x=[[1.0]]), r"x must be a finite float tensor \(4, E\)"),
    "a recipe of words": (_changed(recipe="tau .4"), "recipe must be a dict, not 'tau .4'"),
}


@pytest.mark.parametrize("case", DAMAGED_JSON)
def test_damaged_json_is_refused_by_its_words(case: str, graph: Data, tmp_path: Path) -> None:
    change, words = DAMAGED_JSON[case]
    path = save_graph(graph, tmp_path / "graph.json")
    path.write_text(json.dumps(change(json.loads(path.read_text()))))
    with pytest.raises(InputError, match=words) as caught:
        load_graph(path)
    assert str(caught.value).startswith(f"{path}: ")


OBJECTS = np.array([{"a": 1}, None], dtype=object)

DAMAGED_NPZ: dict[str, tuple[Callable[[dict], dict], str]] = {
    "no edges": (_without("edge_index"), NO_GRAPH),  # type: ignore[dict-item]
    "no weights": (_without("edge_weight"), NO_GRAPH),  # type: ignore[dict-item]
    "no names": (_without("label_names"), NO_GRAPH),  # type: ignore[dict-item]
    "objects for names": (lambda a: {**a, "label_names": OBJECTS}, f"{NO_GRAPH} .*allow_pickle=False"),
    "objects for edges": (lambda a: {**a, "edge_index": OBJECTS}, f"{NO_GRAPH} .*allow_pickle=False"),
    "objects for vectors": (lambda a: {**a, "x": OBJECTS}, f"{NO_GRAPH} .*allow_pickle=False"),
    "float edges": (lambda a: {**a, "edge_index": a["edge_index"] + 0.0}, "must be an int64 tensor"),
    "words for edges": (lambda a: {**a, "edge_index": np.array(["a"])}, NO_GRAPH),
    "edges transposed": (
        lambda a: {**a, "edge_index": a["edge_index"].T.copy()},
        r"must be an int64 tensor \(2, M\)",
    ),
    "weights too few": (
        lambda a: {**a, "edge_weight": a["edge_weight"][1:]},
        "edge_weight must be a float tensor",
    ),
    "NaN in vectors": (lambda a: {**a, "x": a["x"] * np.nan}, "x must be a finite float tensor"),
    "numbers for names": (lambda a: {**a, "label_names": np.arange(4)}, "strings that are not empty, not 0"),
    "one name": (lambda a: {**a, "label_names": np.array("four")}, "not the one name 'four'"),
    "broken recipe": (lambda a: {**a, "recipe": np.array("{")}, NO_GRAPH),
}


@pytest.mark.parametrize("case", DAMAGED_NPZ)
def test_damaged_npz_is_refused_by_its_words(case: str, graph: Data, tmp_path: Path) -> None:
    change, words = DAMAGED_NPZ[case]
    path = save_graph(graph, tmp_path / "graph.npz")
    with np.load(path) as arrays:
        changed = change(dict(arrays))
    np.savez(path, **changed)
    with pytest.raises(InputError, match=words) as caught:
        load_graph(path)
    assert str(caught.value).startswith(f"{path}: ")


@pytest.mark.parametrize("suffix", [".json", ".npz"])
@pytest.mark.parametrize("keep", [0, 1, 10, 200, -30])
def test_files_that_end_early_are_refused(suffix: str, keep: int, graph: Data, tmp_path: Path) -> None:
    path = save_graph(graph, tmp_path / f"graph{suffix}")
    path.write_bytes(path.read_bytes()[:keep])
    with pytest.raises(InputError, match=NO_GRAPH):
        load_graph(path)


def test_an_npz_with_a_wrong_byte_is_refused(graph: Data, tmp_path: Path) -> None:
    path = save_graph(graph, tmp_path / "graph.npz")
    with zipfile.ZipFile(path) as archive:
        entry = archive.getinfo("edge_weight.npy")
    content = bytearray(path.read_bytes())
    content[entry.header_offset + 30 + len("edge_weight.npy") + entry.compress_size // 2] ^= 0xFF
    path.write_bytes(content)
    with pytest.raises(InputError, match=NO_GRAPH):
        load_graph(path)


@pytest.mark.parametrize("suffix", [".json", ".npz"])
def test_other_content_under_the_suffix_is_refused(suffix: str, tmp_path: Path) -> None:
    path = tmp_path / f"graph{suffix}"
    buffer = io.BytesIO()
    np.save(buffer, np.eye(3))
    for content in (buffer.getvalue(), bytes(range(256)), pickle.dumps(Bomb(tmp_path / "ran")), b"{}"):
        path.write_bytes(content)
        with pytest.raises(InputError, match=NO_GRAPH):
            load_graph(path)
    assert not (tmp_path / "ran").exists()


# ML-GCN's pickles.


class Calls:
    """Pickles as a call of ``function`` with the arguments."""

    def __init__(self, function: object, *arguments: object) -> None:
        self.call = function, arguments

    def __reduce__(self) -> tuple:
        return self.call


class Bomb(Calls):
    """Pickles as code that writes a file when it runs."""

    def __init__(self, path: Path) -> None:
        super().__init__(os.system, f"touch {path}")


def write(path: Path, content: object, protocol: int = 2) -> Path:
    path.write_bytes(pickle.dumps(content, protocol=protocol))
    return path


def mlgcn_tables(dtype: str = "i8", order: str = "C") -> dict[str, np.ndarray]:
    """What ML-GCN's files hold; 300 is past one byte, so that byte orders differ."""
    adj = np.array([[0, 2, 3], [2, 0, 300], [3, 300, 0]])
    return {"adj": np.array(adj, dtype=dtype, order=order), "nums": np.array([4, 500, 301], dtype=dtype)}  # type: ignore[call-overload]


@pytest.mark.parametrize("protocol", range(pickle.HIGHEST_PROTOCOL + 1))
@pytest.mark.parametrize("dtype", ["i8", "<i4", ">i4", "u2", "f8", ">f4"])
@pytest.mark.parametrize("order", ["C", "F"])
def test_ml_gcn_s_tables_are_read(protocol: int, dtype: str, order: str, tmp_path: Path) -> None:
    path = write(tmp_path / "voc_adj.pkl", mlgcn_tables(dtype, order), protocol)
    counts = import_mlgcn_pickle(path, ["a", "b", "c"], num_images=900)
    assert counts.label_names == ("a", "b", "c")
    assert counts.counts.tolist() == [4, 500, 301]
    assert counts.cooccurrence.toarray().tolist() == [[0, 2, 3], [2, 0, 300], [3, 300, 0]]
    assert counts.counts.dtype == counts.cooccurrence.dtype == np.int64
    assert counts.num_images == 900


def test_tables_that_python_2_pickled_are_read(tmp_path: Path) -> None:
    """Python 2 wrote the numbers as a byte string, NumPy 1 its own module names."""
    raw = np.arange(6, dtype="<f4").tobytes()
    path = tmp_path / "vectors.pkl"
    path.write_bytes(
        b"\x80\x02cnumpy.core.multiarray\n_reconstruct\ncnumpy\nndarray\nK\x00\x85U\x01b\x87R"
        b"(K\x01K\x02K\x03\x86cnumpy\ndtype\nU\x02f4K\x00K\x01\x87R"
        b"(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb\x89U" + bytes([len(raw)]) + raw + b"tb."
    )
    assert import_mlgcn_vectors(path).tolist() == [[0, 1, 2], [3, 4, 5]]


@pytest.mark.parametrize("protocol", [2, 4, 5])
def test_a_shipped_table_survives_the_detour(protocol: int, tmp_path: Path) -> None:
    counts = label_counts("voc2007")
    tables = {"adj": counts.cooccurrence.toarray(), "nums": counts.counts[:, None]}
    imported = import_mlgcn_pickle(write(tmp_path / "adj.pkl", tables, protocol), counts.label_names, 5_011)
    assert_same(
        label_graph(imported, threshold=0.4, embeddings="onehot"),
        label_graph(counts, threshold=0.4, embeddings="onehot"),
    )


def test_a_diagonal_holds_no_pairs(tmp_path: Path) -> None:
    targets = np.array([[1, 1, 0], [1, 0, 1], [1, 1, 1]])
    tables = {"adj": targets.T @ targets, "nums": targets.sum(0)}
    imported = import_mlgcn_pickle(write(tmp_path / "adj.pkl", tables), ["a", "b", "c"])
    expected = count_labels(targets, ["a", "b", "c"])
    assert imported.cooccurrence.toarray().tolist() == expected.cooccurrence.toarray().tolist()


@pytest.mark.parametrize("protocol", [2, 4, 5])
@pytest.mark.parametrize("order", ["C", "F"])
def test_ml_gcn_s_vectors_are_read(protocol: int, order: str, tmp_path: Path) -> None:
    vectors = np.random.default_rng(0).standard_normal((3, 4)).astype(np.float32, order=order)  # type: ignore[call-overload]
    imported = import_mlgcn_vectors(write(tmp_path / "voc_glove_word2vec.pkl", vectors, protocol))
    np.testing.assert_array_equal(imported.numpy(), vectors)
    graph = label_graph([["a", "b"], ["c"]], embeddings=imported)
    imported += 1  # the tensor is the caller's own, and can be written to
    assert graph.num_nodes == 3


@pytest.mark.parametrize("protocol", [0, 2, 4, 5])
@pytest.mark.parametrize(
    "read", [import_mlgcn_vectors, lambda path: import_mlgcn_pickle(path, ["a", "b", "c"])]
)
def test_a_pickle_with_code_is_refused_and_does_not_run(
    protocol: int, read: Callable, tmp_path: Path
) -> None:
    ran = tmp_path / "ran"
    for hidden in (
        Bomb(ran),
        {**mlgcn_tables(), "more": Bomb(ran)},
        {"adj": Bomb(ran), "nums": [Bomb(ran)]},
        {**mlgcn_tables(), ("a", Bomb(ran)): 1},
        {"adj": np.array([Bomb(ran)], dtype=object), "nums": np.ones(3)},
    ):
        path = write(tmp_path / "adj.pkl", hidden, protocol)
        with pytest.raises(
            InputError, match=r"adj\.pkl: the pickle (asks for \w+\.system|holds an array of 'O8')"
        ):
            read(path)
    assert not ran.exists()
    pickle.loads(pickle.dumps(Bomb(ran)))  # that would have run
    assert ran.exists()


REFUSED: dict[str, tuple[object, str]] = {
    "numpy.load": (Calls(np.load, "x.npy", None, True), r"asks for numpy\S*\.load"),
    "eval": (Calls(eval, "1 + 1"), r"asks for \w*builtin\w*\.eval"),
    "getattr": (Calls(getattr, "text", "upper"), r"asks for \w*builtin\w*\.getattr"),
    "a tensor": (torch.ones(3), r"asks for torch\._utils\._rebuild_tensor"),
    "a subclass": (np.ma.array([1]), r"asks for numpy\.ma\.\w+\._mareconstruct"),
    "objects": (np.array([1, "a"], dtype=object), "holds an array of 'O8': only arrays of numbers are read"),
    "text": (np.array(["abc"]), "holds an array of 'U3'"),
    "fields": (np.zeros(2, dtype=[("a", "i4"), ("b", "f8")]), "holds an array of 'V12'"),
    "complex numbers": (np.zeros(2, dtype=complex), "holds an array of 'c16'"),
    "objects over bytes": (
        Calls(np.ndarray, (1,), np.dtype("i8"), b"\x01" * 8),
        "not a pickle that can be read",
    ),
    "a bare array": (Calls(np.ndarray, (2, 2)), "not a pickle that can be read"),
    "a scalar": (np.float64(1), r"asks for numpy\S*\.multiarray\.scalar"),
}


@pytest.mark.parametrize("case", REFUSED)
@pytest.mark.parametrize("nested", [False, True])
def test_only_arrays_of_numbers_are_read(case: str, nested: bool, tmp_path: Path) -> None:
    content, words = REFUSED[case]
    path = write(tmp_path / "adj.pkl", {**mlgcn_tables(), "more": [content]} if nested else content)
    with pytest.raises(InputError, match=words):
        import_mlgcn_pickle(path, ["a", "b", "c"])
    with pytest.raises(InputError, match=words):
        import_mlgcn_vectors(path)


def test_a_forged_dtype_cannot_turn_bytes_into_objects(tmp_path: Path) -> None:
    """A number's dtype whose state claims fields of objects: only the byte order of a state is used."""
    forged = (3, "<", None, ("a",), {"a": ("O8", 0)}, 8, 8, 63)

    class Dtype:
        def __reduce__(self) -> tuple:
            return np.dtype, ("i8", False, True), forged

    class Array:
        def __reduce__(self) -> tuple:
            rebuild, arguments, _ = np.ones(2).__reduce__()
            return rebuild, arguments, (1, (2, 2), Dtype(), False, b"\x41" * 32)

    vectors = import_mlgcn_vectors(write(tmp_path / "vectors.pkl", Array(), 4))
    assert vectors.dtype == torch.float32
    assert vectors.tolist() == [[float(np.float32(0x4141414141414141))] * 2] * 2


@pytest.mark.parametrize("content", [b"", b"\x80", b"not a pickle", b"\x80\x02]q\x00(K\x01"])
def test_broken_pickles_are_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "adj.pkl").write_bytes(content)
    with pytest.raises(InputError, match=r"adj\.pkl: not a pickle that can be read"):
        import_mlgcn_pickle(tmp_path / "adj.pkl", ["a"])


def test_an_array_that_was_never_filled(tmp_path: Path) -> None:
    rebuild, arguments, _ = np.ones(2).__reduce__()
    path = write(tmp_path / "adj.pkl", {"adj": Calls(rebuild, *arguments), "nums": np.ones(2)})
    with pytest.raises(InputError, match=r"2 label names, but adj is \(0,\)"):
        import_mlgcn_pickle(path, ["a", "b"])


def test_an_array_whose_numbers_are_missing(tmp_path: Path) -> None:
    path = write(tmp_path / "vectors.pkl", np.ones((50, 50)), 4)
    path.write_bytes(path.read_bytes().replace(np.ones(10).tobytes(), b"", 1))
    with pytest.raises(InputError, match="not a pickle that can be read"):
        import_mlgcn_vectors(path)


def _tables(**fields: object) -> dict:
    return {**mlgcn_tables(), **fields}


BAD_TABLES: dict[str, tuple[object, str]] = {
    "an array": (np.eye(3), "expected a dict with arrays 'adj' and 'nums', as ML-GCN writes it"),
    "no nums": ({"adj": np.eye(3)}, "expected a dict with arrays 'adj' and 'nums'"),
    "lists": (_tables(nums=[4, 500, 301]), "expected a dict with arrays 'adj' and 'nums'"),
    "adj not square": (_tables(adj=np.ones((3, 2))), r"3 label names, but adj is \(3, 2\) and nums \(3,\)"),
    "nums too long": (_tables(nums=np.ones(4)), r"3 label names, but adj is \(3, 3\) and nums \(4,\)"),
    "half a pair": (_tables(adj=np.full((3, 3), 0.5)), "adj must hold counts: whole numbers, 0 or more"),
    "negative": (_tables(nums=np.array([4, -1, 301])), "nums must hold counts"),
    "NaN": (_tables(nums=np.array([4, np.nan, 301])), "nums must hold counts"),
    "not symmetric": (_tables(adj=np.triu(np.ones((3, 3)))), "adj must be symmetric"),
    "too many pairs": (
        _tables(nums=np.array([4, 299, 301])),
        "no pair more frequent than its labels in nums",
    ),
}


@pytest.mark.parametrize("case", BAD_TABLES)
def test_tables_that_do_not_fit_are_refused_by_their_words(case: str, tmp_path: Path) -> None:
    content, words = BAD_TABLES[case]
    with pytest.raises(InputError, match=words) as caught:
        import_mlgcn_pickle(write(tmp_path / "adj.pkl", content), ["a", "b", "c"])
    assert "adj.pkl: " in str(caught.value)


def test_names_that_do_not_fit(tmp_path: Path) -> None:
    path = write(tmp_path / "adj.pkl", mlgcn_tables())
    with pytest.raises(InputError, match=r"2 label names, but adj is \(3, 3\)"):
        import_mlgcn_pickle(path, ["a", "b"])
    with pytest.raises(InputError, match="must be unique; more than once: a"):
        import_mlgcn_pickle(path, ["a", "b", "a"])


def test_imports_name_a_file_that_is_not_there_and_vectors_that_are_none(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.pkl: no such file"):
        import_mlgcn_pickle(tmp_path / "nowhere.pkl", ["a"])
    for content in (mlgcn_tables(), np.ones(3), [[1.0]]):
        with pytest.raises(InputError, match=r"expected an array of label vectors \(L, E\)"):
            import_mlgcn_vectors(write(tmp_path / "vectors.pkl", content))
