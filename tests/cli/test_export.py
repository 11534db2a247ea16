"""`clipedu export` from the command line."""

import pytest

from clipedu.cli.parser import main
from tests.helpers.releases import trained_run

pytestmark = pytest.mark.xdist_group("exports")


def test_what_is_printed(tmp_path, capsys):
    assert (
        main(["export", str(trained_run().folder), "--to", "timm", "--out", str(tmp_path / "out"), "--projection"]) == 0
    )
    shown = capsys.readouterr().out
    assert f"{tmp_path}/out: " in shown and " MB, loaded again by timm with equal embeddings" in shown
    assert "licence is unknown" in shown and f'timm.create_model("local-dir:{tmp_path}/out", pretrained=True)' in shown
    words = [
        "export",
        str(trained_run().folder),
        "--to",
        "timm",
        "--out",
        str(tmp_path / "more"),
        "--license",
        "mit",
        "--checkpoint",
        "best",
    ]
    assert main(words) == 0 and "licence" not in capsys.readouterr().out
    assert "license: mit" in (tmp_path / "more/README.md").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "which library is it for? Give --to transformers, open_clip, timm or onnx"),
        (["--to", "keras"], "unknown library 'keras'"),
        (["--to", "timm", "--private"], "--private has no effect"),
        (["--to", "timm", "--push-to-hub", "me/x"], "HF_HUB_OFFLINE is set"),
        (["--to", "onnx", "--projection"], "no place of its own"),
        (["--to", "timm", "--weights", "random"], "has no effect"),
        (["--to", "timm", "--checkpoint", "first"], "invalid choice: 'first'"),
    ],
)
def test_what_cannot_be_exported(words, said, tmp_path, capsys, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    try:
        code = main(["export", str(trained_run().folder), "--out", str(tmp_path / "out"), *words])
    except SystemExit as stop:
        code = stop.code
    assert code == 2 and said in (shown := capsys.readouterr().err) and len(shown.splitlines()) <= 3
    assert not list(tmp_path.iterdir())
