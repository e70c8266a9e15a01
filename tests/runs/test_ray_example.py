"""The example for Ray Train asks Ray for the workers that the command line names. No cluster is started."""

import importlib.util
import sys
import types
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "pretrain_on_ray.py"


def test_ray_is_asked_for_the_workers_that_were_named(monkeypatch, tmp_path):
    asked = {}

    def scaling(**settings):  # by name: the order of Ray's fields is another one in each of its two versions
        asked.update(settings)

    def trainer(work, *, scaling_config):
        return types.SimpleNamespace(fit=lambda: None)

    modules = {
        "ray": types.ModuleType("ray"),
        "ray.train": types.ModuleType("ray.train"),
        "ray.train.tensorflow": types.ModuleType("ray.train.tensorflow"),
    }
    modules["ray"].init, modules["ray"].train = lambda **_: None, modules["ray.train"]
    modules["ray.train"].ScalingConfig, modules["ray.train"].tensorflow = scaling, modules["ray.train.tensorflow"]
    modules["ray.train.tensorflow"].TensorflowTrainer = trainer
    for name, module in modules.items():
        monkeypatch.setitem(sys.modules, name, module)
    spec = importlib.util.spec_from_file_location("pretrain_on_ray", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "pretrain_on_ray", example)  # dataclasses look their module up
    spec.loader.exec_module(example)
    example.main(["--workers", "3", "--gpus-per-worker", "2", "--prepared", str(tmp_path), "--output", str(tmp_path)])
    assert asked == {"num_workers": 3, "use_gpu": True, "resources_per_worker": {"GPU": 2}}
