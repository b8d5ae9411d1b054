"""How jobs on one machine share its cores and GPUs."""

import pytest

from experiments.sweep import clusters
from unified_diffusion.errors import UserError


@pytest.mark.parametrize(
    ("jobs", "cores", "expected"),
    [
        (1, 4, [[0, 1, 2, 3]]),
        (2, 4, [[0, 1], [2, 3]]),
        (3, 8, [[0, 1], [2, 3], [4, 5]]),
        (3, 2, [[0], [1], [0]]),
    ],
)
def test_cores(jobs, cores, expected, monkeypatch, tmp_path):
    monkeypatch.setattr(clusters, "usable_cores", lambda: list(range(cores)))
    assert clusters.Local(tmp_path, {}, jobs, 0)._cores == expected


@pytest.mark.parametrize(
    ("named", "expected"),
    [("", []), ("-1", []), ("0, 1", ["0", "1"]), ("2,-1,0", ["2"]), ("GPU-8f2e,GPU-11aa", ["GPU-8f2e", "GPU-11aa"])],
)
def test_the_gpus_that_cuda_is_told_of(named, expected, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    assert clusters.visible_gpus() == expected


def test_gpus(monkeypatch, tmp_path):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3,5")

    def shares(jobs, gpus):
        return clusters.Local(tmp_path, {}, jobs, gpus)._shares

    assert shares(2, 0) == [{}, {}]
    assert shares(2, 1) == [{"CUDA_VISIBLE_DEVICES": "2"}, {"CUDA_VISIBLE_DEVICES": "3"}]
    assert shares(1, 2) == [{"CUDA_VISIBLE_DEVICES": "2,3"}]
    # More jobs than GPUs: each takes its part of the memory, most of which JAX would take for itself at once.
    crowded = shares(5, 1)
    assert [share["CUDA_VISIBLE_DEVICES"] for share in crowded] == ["2", "3", "5", "2", "3"]
    assert {share["XLA_PYTHON_CLIENT_MEM_FRACTION"] for share in crowded} == {"0.450"}
    with pytest.raises(UserError, match="there are 3 on this machine"):
        shares(1, 4)
