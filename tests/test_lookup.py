"""Names that are not there: the message has the name, the nearest ones and the known ones."""

import pytest

from zoo.lookup import InputError, lookup, unknown

TABLE = {"mlgcn": 1, "csra": 2, "gat": 3, "linear": 4}


def test_known_name_gives_its_entry():
    assert lookup("head", "gat", TABLE) == 3


def test_unknown_name_suggests_the_nearest_and_lists_the_known():
    with pytest.raises(InputError) as error:
        lookup("head", "mlgnc", TABLE)
    assert str(error.value) == ("unknown head 'mlgnc'. Did you mean mlgcn? Known: csra, gat, linear, mlgcn")


def test_case_does_not_hide_a_name():
    assert "Did you mean GCNConv?" in str(unknown("conv", "gcnconv", ["GCNConv", "SGConv"]))


def test_long_tables_are_cut_and_counted():
    message = str(unknown("backbone", "zzz", [f"net{i:02}" for i in range(40)]))
    assert message.endswith("net11, ... (40 in all)")
    assert "Did you mean" not in message


def test_a_prefix_suggests_what_it_begins():
    assert "Did you mean GCNConv" in str(unknown("conv", "GCN", ["SGConv", "LGConv", "CGConv", "GCNConv"]))
