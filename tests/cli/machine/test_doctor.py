"""`repro doctor`: what is broken fails, each with its fix."""

from __future__ import annotations

import json
import tomllib
from pathlib import Path
from typing import Any

import pytest
import torch

from repro.cli.machine import card_findings, machine_findings
from repro.cli.machine.machine_findings import OLDEST, OLDEST_PYTHON, Finding, of_login_node
from repro.cli.parser import main


def test_doctor_names_what_is_broken_and_fails(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("REPRO_RESULTS", str(tmp_path / "file" / "results"))
    assert main(["doctor", "--json"]) == 1
    findings = json.loads(capsys.readouterr().out)["findings"]
    broken = [finding for finding in findings if finding["level"] == "fail"]
    assert [finding["what"] for finding in broken] == [str(tmp_path / "file" / "results")]
    assert broken[0]["fix"]
    assert not any(f["fix"] for f in findings if f["level"] == "ok")


def test_the_oldest_versions_are_those_that_the_package_asks_for(repository: Path) -> None:
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]
    asked = dict(line.split(">=") for line in project["dependencies"])
    for name, oldest in OLDEST.items():
        assert tuple(map(int, asked[name].split(".")[:2])) == oldest
    assert project["requires-python"] == ">=" + ".".join(map(str, OLDEST_PYTHON))


CARD = {
    "name": "a card", "memory_gib": 80.0, "free_gib": 79.0, "capability": "9.0", "cuda": "13.0",
    "driver": "580.1", "compute_mode": "Default", "bf16": True,
}  # fmt: skip


def warned(**changed: Any) -> list[str]:
    findings = list(card_findings._card(CARD | changed))
    assert all(bool(finding.fix) == (finding.level != "ok") for finding in findings)
    return [finding.what for finding in findings if finding.level == "warn"]


def test_what_will_bite_on_a_card_is_warned_of(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card_findings.shutil, "which", lambda name: f"/usr/bin/{name}")
    monkeypatch.setattr(card_findings, "find_spec", lambda name: name)
    monkeypatch.setattr(card_findings.Path, "exists", lambda path: True)
    assert warned() == []
    assert warned(free_gib=40.0) == ["40.0 of 80.0 GiB of the card free"]
    assert warned(compute_mode="Exclusive_Process") == ["Exclusive_Process"]
    assert warned(bf16=False) == ["no bfloat16"]
    monkeypatch.setattr(card_findings, "find_spec", lambda name: None)
    monkeypatch.setattr(card_findings.shutil, "which", lambda name: None)
    assert warned() == ["no triton, no C compiler"]


def test_a_card_that_does_not_compute_is_broken(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> dict[str, Any]:
        raise torch.OutOfMemoryError("CUDA out of memory.\nTried to allocate")

    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(card_findings, "identify", fail)
    (finding,), figures = card_findings.examine_card()
    assert (finding.level, finding.meaning) == ("fail", "CUDA out of memory.")
    assert figures is None


def test_rates_are_those_of_products_and_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(card_findings, "seconds_of", lambda call, cuda: call() is None or 0.001)
    rates = card_findings.measure(torch.device("cpu"), (100, 10**6))
    assert rates == card_findings.Rates(
        bf16_tflops=pytest.approx(0.002), tf32_tflops=None, fp32_tflops=pytest.approx(0.002),
        copy_gb_s=pytest.approx(2.0), from_pinned_gb_s=None,
    )  # fmt: skip
    assert card_findings.in_words(rates) == "bf16 0.002, fp32 0.002 TFLOP/s; copying 2 GB/s"


def test_a_file_system_without_locks_is_warned_of_since_leases_stand_in(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    found = {finding.what: finding for finding in machine_findings._results_folder(tmp_path)}
    assert found["file locks"].level == "ok"
    monkeypatch.setattr(machine_findings, "_locks_work", lambda _: False)
    found = {finding.what: finding for finding in machine_findings._results_folder(tmp_path)}
    assert found["file locks"].level == "warn"
    assert "leases" in found["file locks"].meaning


def test_a_login_node_need_not_be_able_to_train() -> None:
    missing = Finding("fail", "import torch, timm", "no run can start: ImportError", "install them")
    assert of_login_node(missing).level == "warn"
    folder = Finding("fail", "/results", "cannot be written: Permission denied", "change it")
    assert of_login_node(folder) == folder
