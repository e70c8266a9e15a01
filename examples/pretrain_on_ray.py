"""Pretrain on the machines of a Ray cluster: Ray Train starts a worker on each and sets its TF_CONFIG.

python examples/pretrain_on_ray.py --workers 4 --gpus-per-worker 8 --ray-address auto pretrain_bert \
    --prepared /shared/prepared --size base --steps 100000 --batch-size 8192 --output /shared/my_bert

What follows the script's name are its arguments. Its paths are on a disk that all machines see; so are the examples.
"""

import argparse
import importlib
import sys
from pathlib import Path


def parse_arguments(argv=None):
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--workers", type=int, required=True)
    parser.add_argument("--gpus-per-worker", type=int, default=0)
    parser.add_argument("--ray-address", help="default: RAY_ADDRESS, or this machine alone")
    parser.add_argument("script", choices=("pretrain_bert", "pretrain_electra"))
    parser.add_argument("arguments", nargs=argparse.REMAINDER, help="of the script, without --strategy")
    return parser.parse_args(argv)


def work(config: dict) -> None:
    """In each worker."""
    sys.path.insert(0, config["examples"])
    importlib.import_module(config["script"]).main([*config["arguments"], "--strategy", "multiworker"])


def main(argv=None):
    args = parse_arguments(argv)
    import ray
    from ray.train import ScalingConfig
    from ray.train.tensorflow import TensorflowTrainer

    # Ray Train touches tf.keras before keras_pretrain can choose the legacy one.
    ray.init(args.ray_address, runtime_env={"env_vars": {"TF_USE_LEGACY_KERAS": "1"}})
    resources = {"GPU": args.gpus_per_worker} if args.gpus_per_worker else {"CPU": 1}
    TensorflowTrainer(
        work,
        train_loop_config={
            "examples": str(Path(__file__).resolve().parent),
            "script": args.script,
            "arguments": args.arguments,
        },
        scaling_config=ScalingConfig(
            num_workers=args.workers, use_gpu=args.gpus_per_worker > 0, resources_per_worker=resources
        ),
    ).fit()


if __name__ == "__main__":
    main()
