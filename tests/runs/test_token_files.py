"""What a run keeps of its tokens: written by scoring a ViT, read by the report, absent elsewhere, told if damaged."""

import pytest
import torch

from clipedu.data.scenes.dataset import Scenes
from clipedu.inference.attention import attention_maps, name_tokens, token_norms
from clipedu.runs.token_files import keep_tokens, kept_tokens
from clipedu.utils.errors import ClipeduError
from clipedu.workflow.pipeline import fit

pytestmark = pytest.mark.xdist_group("tokens of a run")  # what is costly is made once


@pytest.fixture(scope="module")
def run(quick, tmp_path_factory):
    changes = {"image_encoder": "fractal_vit_nano_patch4_32", "epochs": 1}
    return fit(quick.replace(**changes), tmp_path_factory.mktemp("runs") / "vit", progress=False)


def test_a_vit_run_keeps_its_tokens(run):
    tokens, found = kept_tokens(run.folder)
    model = run.model()
    expected = name_tokens(model)
    assert (tokens.names, tokens.extra, tokens.grid) == (expected.names, expected.extra, expected.grid)
    assert torch.equal(tokens.windows, expected.windows)
    pixels = Scenes("val", 1000).pixels(torch.arange(16))
    assert torch.equal(found["pixels"], pixels)
    assert torch.allclose(found["norms"], token_norms(model, pixels), rtol=1e-4)
    maps = attention_maps(model, pixels[:1]).mean(2, keepdim=True)
    assert found["maps"].shape == (4, 1, 1, 85, 85) and torch.allclose(found["maps"].float(), maps, atol=1e-3)


def test_its_report_shows_them(run):
    page = (run.folder / "report.html").read_text()
    assert "Tokens of the image encoder" in page and "Where tokens of the first picture look" in page
    assert (run.folder / "plots" / "attention.png").is_file() and (run.folder / "plots" / "token-norms.png").is_file()


def test_other_encoders_keep_none(finished):
    assert kept_tokens(finished.folder) is None
    assert "Tokens of the image encoder" not in (finished.folder / "report.html").read_text()


def test_without_summary_tokens_there_are_no_windows(quick, tmp_path):
    plain = quick.replace(image_encoder="vit_nano_patch4_32_reg21", image_options={"pos_embed": "rope"}, epochs=1)
    run = fit(plain, tmp_path / "run", progress=False, report=False)
    tokens, _ = kept_tokens(run.folder)
    assert tokens.windows is None and tokens.names[:2] == ("register 0", "register 1")


def test_few_pictures_are_enough(run, tmp_path):
    keep_tokens(tmp_path, run.model(), Scenes("val", 3))
    assert kept_tokens(tmp_path)[1]["norms"].shape == (4, 3, 85)


@pytest.mark.parametrize("file, content", [("tokens.safetensors", b"nonsense"), ("tokens.json", b"{}")])
def test_damage_is_told(run, tmp_path, file, content):
    keep_tokens(tmp_path, run.model(), Scenes("val", 2))
    (tmp_path / file).write_bytes(content)
    with pytest.raises(ClipeduError, match=f"{file} cannot be read: .*Score the run again"):
        kept_tokens(tmp_path)
