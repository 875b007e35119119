"""Comparisons on a Ray cluster of two processes: what one after the other gives, to the last digit, whoever dies."""

from __future__ import annotations

import os
import pickle
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

from zoo.cli import main
from zoo.comparison import compare
from zoo.lookup import InputError
from zoo.protocol import Protocol
from zoo.user_modules import import_module_file

ray = pytest.importorskip("ray", reason="ray is not installed")

BACKBONE = "test_efficientnet"
TWO = (f"linear-{BACKBONE}", f"mlgcn-{BACKBONE}:widths=[8]")
QUICK = Protocol(trials=2, seeds=2, epochs=2, embeddings="random")

# A head whose first training kills its process, one that raises, and one that waits for a file.
OWN_HEADS = """
import os, signal, time
from pathlib import Path

from zoo.heads import HEADS
from zoo.heads.linear import LinearHead
from zoo.lookup import InputError

HERE = Path(__file__).parent


class Mortal(LinearHead):
    def begin_training(self, targets):
        if not (HERE / "died").exists():
            (HERE / "died").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        super().begin_training(targets)


class Wrong(LinearHead):
    def begin_training(self, targets):
        raise InputError("these targets do not suit it")


class Slow(LinearHead):
    def begin_training(self, targets):
        with (HERE / "begun").open("a") as file:
            file.write("run\\n")
        while not (HERE / "go").exists():
            time.sleep(0.05)
        super().begin_training(targets)


HEADS |= {"mortal": Mortal, "wrong": Wrong, "slow": Slow}
"""


@pytest.fixture(scope="module")
def cluster():
    """The address of a cluster that runs two tasks at a time. This process stays connected: workers start slowly."""
    from ray.cluster_utils import Cluster

    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        patch.setenv("PYTHONPATH", str(Path(__file__).parent.parent))
        started = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "include_dashboard": False})
        ray.init(started.address, log_to_driver=False)
        yield started.address
        ray.shutdown()
        started.shutdown()


@pytest.fixture(scope="module")
def own_heads(tmp_path_factory):
    """The folder of the file that this process has imported."""
    file = tmp_path_factory.mktemp("own") / "mortal_heads.py"
    file.write_text(OWN_HEADS)
    from zoo.heads import HEADS

    with pytest.MonkeyPatch.context() as patch:
        for name in ("mortal", "wrong", "slow"):
            patch.setitem(HEADS, name, None)  # and take it out again afterwards
        import_module_file(file)
        yield file.parent


def run(colours, output, models, protocol=QUICK, **options):
    return compare(
        colours, models, protocol=protocol, controls=False, pretrained=False, output=output, workers=0, **options
    )  # fmt: skip


def rows(done):
    found = [row for result in done.results for row in [*result.trials, *result.runs]]
    return [{key: value for key, value in row.items() if key != "seconds"} for row in found]


def test_a_cluster_that_is_not_there(colours, tmp_path):
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{closed.getsockname()[1]}"
        with pytest.raises(InputError, match=rf"ray='{address}' cannot be reached: .*refused"):
            run(colours, tmp_path, TWO, ray=address)
    with pytest.raises(InputError, match="ray='somewhere': expected local, auto, host:port"):
        run(colours, tmp_path, TWO, ray="somewhere")
    with pytest.raises(InputError, match=r"gpus_per_run=0\.5 is for runs on Ray"):
        run(colours, tmp_path, TWO, gpus_per_run=0.5)
    with pytest.raises(InputError, match=r"gpus_per_run must lie in \[0, 1\], not 2\.0"):
        run(colours, tmp_path, TWO, ray="local", gpus_per_run=2.0)


def test_the_command_line_says_what_is_wrong(colours, tmp_path, capsys):
    lines = [
        f"{path},{int(red)},{split}"
        for path, red, split in zip(colours.images, colours.targets[:, 0], colours.splits, strict=True)
    ]
    (tmp_path / "labels.csv").write_text("\n".join(["image,red,split", *lines]))
    assert main(["compare", "--data", str(tmp_path / "labels.csv"), "--ray", "somewhere"]) == 2
    assert capsys.readouterr().err.startswith("zoo: ray='somewhere': expected local, auto, host:port")


def test_a_port_that_is_not_rays(colours, tmp_path, monkeypatch):
    monkeypatch.setattr("zoo.ray_runs.PATIENCE", 4.0)
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
        with pytest.raises(InputError, match=f"ray='{address}': no Ray cluster of this version answers"):
            run(colours, tmp_path, TWO, ray=address)


def test_the_same_to_the_last_digit(colours, cluster, tmp_path):
    protocol = Protocol(trials=6, seeds=2, epochs=2, embeddings="random")  # two of them look near the best
    here = run(colours, tmp_path / "here", TWO, protocol)
    there = run(colours, tmp_path / "there", TWO, protocol, ray=cluster)
    assert rows(there) == rows(here)
    for one, other in zip(there.results, here.results, strict=True):
        assert (one.name, one.kind) == (other.name, other.kind)
        assert all(torch.equal(a, b) for a, b in zip(one.scores, other.scores, strict=True))
    for file in (tmp_path / "here" / "runs").glob("*.safetensors"):
        assert file.read_bytes() == (tmp_path / "there" / "runs" / file.name).read_bytes()


def test_a_worker_that_is_killed_is_replaced(colours, cluster, own_heads, tmp_path):
    (own_heads / "died").unlink(missing_ok=True)
    done = run(colours, tmp_path / "there", [f"mortal-{BACKBONE}"], ray=cluster)
    assert (own_heads / "died").exists()
    assert rows(done) == rows(run(colours, tmp_path / "here", [f"mortal-{BACKBONE}"]))


def test_an_error_is_the_one_that_it_is_without_ray(colours, cluster, own_heads, tmp_path):
    errors = []
    for address in (None, cluster):
        with pytest.raises(InputError) as caught:
            run(colours, tmp_path / str(address), [f"wrong-{BACKBONE}"], ray=address)
        errors.append(str(caught.value))
    assert errors == [f"wrong-{BACKBONE}: these targets do not suit it"] * 2


def test_a_driver_that_is_killed_goes_on_where_it_was(colours, cluster, own_heads, tmp_path):
    """It dies while the first runs of one entry are under way, and those of the other are in the store."""
    entries = [f"slow-{BACKBONE}", f"linear-{BACKBONE}"]
    (tmp_path / "colours.pickle").write_bytes(pickle.dumps(colours))
    script = tmp_path / "driver.py"
    script.write_text(
        "import pickle, torch\n"
        "from zoo.comparison import Protocol, compare\n"
        "from zoo.user_modules import import_module_file\n"
        "torch.set_num_threads(1)\n"
        f"import_module_file({str(own_heads / 'mortal_heads.py')!r})\n"
        f"colours = pickle.loads(open({str(tmp_path / 'colours.pickle')!r}, 'rb').read())\n"
        f"protocol = Protocol(trials=1, seeds=2, epochs=2, embeddings='random')\n"
        f"compare(colours, {entries}, protocol=protocol, controls=False, pretrained=False,\n"
        f"        output={str(tmp_path / 'out')!r}, workers=0, ray={cluster!r})\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parent.parent)}
    driver = subprocess.Popen([sys.executable, "-W", "ignore", str(script)], env=environment)
    store = tmp_path / "out" / "runs"
    try:
        give_up = time.monotonic() + 90
        while len(list(store.glob("*.json"))) < 3 or not (own_heads / "begun").exists():
            assert driver.poll() is None, "it ended before it was killed"
            assert time.monotonic() < give_up
            time.sleep(0.05)
    finally:
        driver.send_signal(signal.SIGKILL)
        driver.wait()
    assert (own_heads / "begun").read_text().count("run") == 1
    before = {file: file.stat().st_mtime_ns for file in store.glob("*.json")}
    assert len(before) == 3
    (own_heads / "go").touch()
    protocol = Protocol(trials=1, seeds=2, epochs=2, embeddings="random")
    done = run(colours, tmp_path / "out", entries, protocol, ray=cluster)
    assert {file: file.stat().st_mtime_ns for file in before} == before
    assert (own_heads / "begun").read_text().count("run") == 1 + 3, "the search anew, and two seeds"
    assert rows(done) == rows(run(colours, tmp_path / "here", entries, protocol))


def test_a_share_of_a_gpu_that_no_machine_has(colours, cluster, tmp_path):
    with pytest.raises(
        InputError, match=r"gpus_per_run=0\.5: no machine of the cluster has more than 0 GPUs"
    ):
        run(colours, tmp_path, TWO, ray=cluster, gpus_per_run=0.5)
