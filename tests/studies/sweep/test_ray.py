"""The example of Ray Tune in docs/sweeps.md runs, on a local Ray, with small settings."""

import re
import secrets

import pytest

from tests.helpers.processes import ROOT


def test_the_example_of_ray_tune_runs(tmp_path, monkeypatch):
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install 'ray[tune]'")
    pytest.importorskip("ray.tune")
    page = (ROOT / "docs/sweeps.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```py\n(.*?)^```$", page, re.DOTALL | re.MULTILINE)
    small = (
        "clipedu.Experiment(train_size=48, batch_size=16, epochs=1, embedding_dim=16, holdout=0.25, evaluate_every=1)"
    )
    code, found = re.subn(r'clipedu\.Experiment\.preset\("tiny".*\)', small, code)
    assert found == 1
    code = code.replace("num_samples=20", "num_samples=2")
    monkeypatch.chdir(tmp_path)
    for name, value in {
        "PYTHONPATH": str(ROOT),
        "RAY_AUTH_TOKEN": secrets.token_hex(32),  # else Ray writes one into the home folder
        "RAY_USAGE_STATS_ENABLED": "0",
    }.items():
        monkeypatch.setenv(name, value)
    try:
        ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False)
    except Exception as error:  # noqa: BLE001  it gives its own processes 15 s to start, which is too short on a busy machine
        ray.shutdown()
        pytest.skip(f"a local Ray does not start here: {error}")
    names: dict = {"__name__": "ray_example"}
    try:
        exec(compile(code, "docs/sweeps.md", "exec"), names)
    finally:
        ray.shutdown()
    assert set(names["best"]) == {"lr", "weight_decay"} and 1e-4 <= names["best"]["lr"] <= 1e-2
    run = names["run"]
    assert run.experiment.lr == names["best"]["lr"] and run.experiment.holdout is None and "top1" in run.metrics
