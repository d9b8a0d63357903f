from __future__ import annotations

import json
from pathlib import Path

import pytest

from pomona.cli import main


def test_an_adapter_of_full_rank_brings_the_fine_tuned_model_back(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    adapter, recipe = tmp_path / "adapter", tmp_path / "recipe.yaml"
    assert main(["merge", "extract", "ui-xs", "ui-xs", str(adapter), "--rank", "4"]) == 2
    assert "does not differ" in capsys.readouterr().err
    assert (
        main(
            [
                "merge",
                "extract",
                "ui-s@80",
                "ui-s@40",
                str(adapter),
                "--energy",
                "1",
                "--format",
                "json",
            ]
        )
        == 0
    )
    document = json.loads(capsys.readouterr().out)
    assert max(module["error"] for module in document["modules"]) < 1e-3
    recipe.write_text(
        f"merge_method: linear\nmodels: [{{model: ui-s@40+{adapter}, parameters: {{weight: "
        f"1}}}}]\ndtype: float32\n"
    )
    assert main(["merge", str(recipe), str(tmp_path / "out"), "--no-report"]) == 0

    from pomona.models import locate
    from pomona.models.tensors import Tensors

    ours, theirs = Tensors(tmp_path / "out"), Tensors(locate("ui-s@80"))
    assert all(abs(ours.floats(name) - theirs.floats(name)).max() < 1e-3 for name in theirs.names)


def test_an_adapter_that_is_there_is_replaced_on_request_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    extract = ["merge", "extract", "ui-s@80", "ui-s@40", str(tmp_path / "a"), "--rank", "1"]
    assert main(extract) == 0
    combine = ["merge", "adapters", str(tmp_path / "a"), "--out", str(tmp_path / "b")]
    combine += ["--weights", "0.5"]
    assert main(combine) == 0
    for line, out in ((extract, tmp_path / "a"), (combine, tmp_path / "b")):
        before = (out / "adapter_model.safetensors").read_bytes()
        capsys.readouterr()
        assert main(line) == 2
        assert f"{out}: is there already — choose another name, or" in capsys.readouterr().err
        assert (out / "adapter_model.safetensors").read_bytes() == before
        assert main([*line, "--overwrite"]) == 0
