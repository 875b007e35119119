from __future__ import annotations

import re
from functools import partial

import pytest

from zoo.controls import CONTROLS
from zoo.entry import BACKBONE, Entry, default_entries, parse_entries, with_controls
from zoo.heads import HEADS
from zoo.heads.graph_head import GraphHead
from zoo.heads.head import Head
from zoo.lookup import InputError


def names(entries) -> list[str]:
    return [entry.name for entry in entries]


@pytest.mark.parametrize(
    ("text", "options", "graph"),
    [
        ("linear-resnet18", {}, "real"),
        ("mlp-resnet18:widths=[512,256]", {"widths": [512, 256]}, "real"),
        ("mlp-resnet18:widths=[]", {"widths": []}, "real"),
        ("mlp-resnet18:dropout=0.25", {"dropout": 0.25}, "real"),
        ("mlgcn-resnet18:bias=true:conv=GATConv", {"bias": True, "conv": "GATConv"}, "real"),
        ("sgc-resnet18.a1_in1k:hops=4:graph=shuffled", {"hops": 4}, "shuffled"),
        ("mlgcn-resnet18:hops=null", {"hops": None}, "real"),
        (
            "mlgcn-resnet18:pooling=no",
            {"pooling": "no"},
            "real",
        ),  # a string, though YAML's 1.1 calls it false
        ("mlgcn-resnet18:graph=identity", {}, "identity"),
    ],
)
def test_parse_and_name_are_inverse(text, options, graph):
    entry = Entry.parse(text)
    assert (entry.model, entry.options, entry.graph) == (text.partition(":")[0], options, graph)
    assert entry.name == text
    assert Entry.parse(entry.name) == entry


def test_the_name_is_canonical():
    entry = Entry.parse(" mlgcn-resnext50:widths=[64, 32]:graph=real:dropout=1e-1:bias=True ")
    assert entry.name == "mlgcn-resnext50_32x4d:bias=true:dropout=0.1:widths=[64,32]"
    assert entry == Entry.parse("mlgcn-resnext50_32x4d:dropout=0.1:bias=true:widths=[64,32]")


def test_kind():
    kinds = [
        ("linear-resnet18", "baseline"),
        ("mlp-resnet18", "baseline"),
        ("mlgcn-resnet18", "graph"),
        ("gat-resnet18", "graph"),
        ("mlgcn-resnet18:graph=random_vectors", "control"),
    ]
    assert [(text, Entry.parse(text).kind) for text, _ in kinds] == kinds


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mlgnc-resnet18", "unknown head 'mlgnc'. Did you mean mlgcn? Known: addgcn, "),
        ("mlgcn-resnet81", "unknown backbone 'resnet81'. Did you mean resnet"),
        ("resnet18", "a model's name is <head>-<timm name>, such as 'linear-resnet18'; 'resnet18' has no hyphen"),
        ("mlp-resnet18:width=[64]", "unknown option of head 'mlp' 'width'. Did you mean widths? Known: dropout, graph"),
        ("linear-resnet18:conv=GATConv", "unknown option of head 'linear' 'conv'"),
        ("mlgcn-resnet18:graph=shufled", "unknown graph 'shufled'. Did you mean shuffled? Known: identity, random"),
        ("linear-resnet18:graph=shuffled", "head 'linear' uses no label graph that could be 'shuffled'"),
        ("mlgcn-resnet18:GATConv", "expected option=value after each colon, not 'GATConv'"),
        ("mlp-resnet18:dropout=.1:dropout=.2", "option 'dropout' is given twice"),
        ("mlp-resnet18:dropout=much", "option of head 'mlp': dropout: expected float, not 'much'"),
        ("mlp-resnet18:widths=512", "option of head 'mlp': widths: expected list, not '512'"),
        ("mlp-resnet18:widths=[512", "option of head 'mlp': widths: expected list, not '[512'"),
        ("mlgcn-resnet18:bias=perhaps", "option of head 'mlgcn': bias: expected bool, not 'perhaps'"),
        ("mlgcn-resnet18:hops=two", "option of head 'mlgcn': hops: expected int or null, not 'two'"),
    ],
)  # fmt: skip
def test_errors_name_what_is_wrong(text, message):
    with pytest.raises(InputError, match=re.escape(message)):
        Entry.parse(text)


def test_options_of_a_head_of_ones_own(monkeypatch):
    class Untyped(Head):
        def __init__(self, num_features, labels, *, pooling="avg", power=2, scale: float = 1.0):
            super().__init__(num_features, labels, pooling=pooling)

    monkeypatch.setitem(HEADS, "untyped", Untyped)
    monkeypatch.setitem(HEADS, "wide", partial(GraphHead, widths=(2048, 2048)))
    monkeypatch.setitem(HEADS, "function", lambda d, labels, *, scale=1.0: Untyped(d, labels, scale=scale))
    assert Entry.parse("untyped-resnet18:power=3:scale=2").options == {"power": 3, "scale": 2.0}
    assert Entry.parse("wide-resnet18:hops=3").options == {"hops": 3}
    assert Entry.parse("function-resnet18:scale=0.5").options == {"scale": 0.5}
    with pytest.raises(InputError, match="scale: expected float, not 'x'"):
        Entry.parse("untyped-resnet18:scale=x")


def test_lists_of_entries():
    texts = ["mlp-resnet18:widths=[512,256]", "linear-resnet18", "mlgcn-resnet18:conv=TAGConv:widths=[]"]
    assert names(parse_entries(",".join(texts))) == texts
    assert names(parse_entries(texts)) == texts
    assert parse_entries("") == []
    assert names(parse_entries("linear-resnet18,,linear-resnet18,")) == ["linear-resnet18"]
    defaults = ["mlgcn-resnext50", "mlgcn-resnext50_32x4d:conv=GCNConv:widths=[1024]"]
    assert len(parse_entries(defaults)) == 1, "the same model, its defaults written out"


def test_default_entries_answer_the_question():
    b = BACKBONE
    models = [f"linear-{b}", f"linear-{b}:pooling=max", f"mlp-{b}", f"mlgcn-{b}", f"sgc-{b}", f"gat-{b}"]
    controls = [f"mlgcn-{b}:graph={name}" for name in ("identity", "shuffled", "random_vectors")]
    assert names(default_entries()) == models + controls
    assert names(default_entries(controls=False)) == models
    assert default_entries("resnet18")[0].model == "linear-resnet18"


def test_with_controls_adds_what_is_missing_once():
    entries = parse_entries("sgc-resnet18:hops=3,gat-resnet18,linear-resnet18:pooling=avg")
    complete = with_controls(entries)
    assert names(complete) == [
        "sgc-resnet18:hops=3",
        "gat-resnet18",
        "linear-resnet18:pooling=avg",  # says what linear-resnet18 says
        "linear-resnet18:pooling=max",
        "mlp-resnet18",
        *(f"sgc-resnet18:hops=3:graph={name}" for name in CONTROLS),
    ]
    assert names(with_controls(complete)) == names(complete)


def test_with_controls_of_each_backbone():
    complete = with_controls(parse_entries("mlgcn-resnet18,sgc-resnet34,linear-vit_tiny_patch16_224"))
    assert "linear-resnet18" in names(complete)
    assert "linear-resnet34:pooling=max" in names(complete)
    assert {"mlgcn-resnet18:graph=shuffled", "sgc-resnet34:graph=shuffled"} <= set(names(complete))
    assert [n for n in names(complete) if "vit" in n] == ["linear-vit_tiny_patch16_224"]


def test_without_a_graph_head_nothing_is_added():
    entries = parse_entries("linear-resnet18,mlp-resnet18")
    assert with_controls(entries) == entries


@pytest.mark.parametrize(
    ("text", "graph_options"),
    [
        ("mlgcn-resnet18:graph.p=0.5", {"p": 0.5}),
        (
            "mlgcn-resnet18:widths=[64]:graph.edges=topk:graph.threshold=0.4",
            {"edges": "topk", "threshold": 0.4},
        ),
        ("coupled-resnet18:graph.annotations=all:graph=shuffled", {"annotations": "all"}),
        ("mlgcn-resnet18:graph.embeddings=onehot:graph=identity", {"embeddings": "onehot"}),
    ],
)
def test_options_of_the_label_graph(text, graph_options):
    entry = Entry.parse(text)
    assert entry.graph_options == graph_options
    assert entry.name == text
    assert Entry.parse(entry.name) == entry


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("mlgcn-resnet18:graph.tau=0.5", "unknown option of the label graph 'graph.tau'"),
        ("mlgcn-resnet18:graph.thresold=0.5", "Did you mean graph.threshold or"),
        ("mlgcn-resnet18:graph.p=much", "option of the label graph: p: expected float"),
        ("linear-resnet18:graph.p=0.5", "head 'linear' uses no label graph that graph.p could change"),
        (
            "mlgcn-resnet18:graph.file=g.json:graph.p=0.5",
            "graph.file=g.json is a whole label graph: p cannot",
        ),
    ],
)
def test_wrong_options_of_the_label_graph(text, message):
    with pytest.raises(InputError, match=re.escape(message)):
        Entry.parse(text)


def test_controls_have_the_graph_of_what_they_control():
    entries = with_controls(parse_entries("mlgcn-resnet18:graph.p=0.5"))
    assert "mlgcn-resnet18:graph.p=0.5:graph=shuffled" in names(entries)
