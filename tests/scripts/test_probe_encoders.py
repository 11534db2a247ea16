"""The probing script: one line an answer, kept in a file, and a table."""

from tests.helpers.processes import load_script


def test_answers_are_kept_and_the_same_command_goes_on(tmp_path, monkeypatch, capsys):
    tool = load_script("probe_encoders")
    asked = []

    def fake(encoder, *, seed, steps, device):
        asked.append((encoder.num_prefix_tokens, seed))
        return {"place": 10.0 + seed + encoder.num_prefix_tokens, "relation": 25.0, "size": 33.0}

    monkeypatch.setattr(tool, "ask", fake)
    command = ["x", "--variants", "plain+none", "fractal+none", "--file", str(tmp_path / "a.jsonl"), "--device", "cpu"]
    monkeypatch.setattr("sys.argv", [*command, "--seeds", "0", "1"])
    tool.main()
    shown = capsys.readouterr().out
    assert asked == [(0, 0), (0, 1), (21, 0), (21, 1)]
    assert "| plain+none | 10.5 ± 6.4 | 25.0 ± 0.0 | 33.0 ± 0.0 |" in shown
    assert "| plain+none | +21.0 ± 0.0 | +0.0 ± 0.0 |" in shown
    monkeypatch.setattr("sys.argv", [*command, "--seeds", "0", "1", "2"])
    tool.main()
    assert asked[4:] == [(0, 2), (21, 2)]
    monkeypatch.setattr("sys.argv", [*command, "--seeds", "0", "--steps", "7"])
    tool.main()
    assert len(asked) == 8  # other steps are other answers
