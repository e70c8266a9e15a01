"""Pretrain a BERT on the machines of a Ray cluster: Ray Train starts a worker on each and sets its TF_CONFIG.

python examples/pretrain_on_ray.py --workers 4 --gpus-per-worker 8 --prepared /shared/prepared --output /shared/my_bert

The prepared folder (`keras-pretrain prepare`) and the output are on a disk that all machines see.
"""

from dataclasses import dataclass
from pathlib import Path

import keras_pretrain as kp
from keras_pretrain.commands import parse


@dataclass(frozen=True, kw_only=True)
class RaySettings(kp.runs.BertSettings):
    """Settings of a run on a Ray cluster: `workers` machines with `gpus_per_worker` GPUs each."""

    prepared: Path = kp.runs.setting(private=True)
    workers: int = kp.runs.setting(1, least=1)
    gpus_per_worker: int = kp.runs.setting(0, least=0)


TAKES = (
    "workers", "gpus_per_worker", "prepared", "size", "batch_size", "steps", "steps_per_epoch", "seed", "output",
)  # fmt: skip


def work(args: RaySettings) -> None:
    """Train the model. Ray calls this function in each worker."""
    kp.enable_logging()
    strategy, prepared = kp.runs.make_strategy("multiworker"), kp.load_prepared(args.prepared)
    features, tokenizer = prepared.features, prepared.tokenizer
    batching = {"batch_size": args.batch_size, "seed": args.seed}
    train = kp.to_tf_dataset(features["train"], tokenizer, **batching)
    validation = kp.to_tf_dataset(features["validation"], tokenizer, training=False, **batching)
    with strategy.scope():
        model = kp.BertPretrainer.from_size(args.size, tokenizer, features=features["train"], seed=args.seed)
        model.compile(kp.create_optimizer(learning_rate=args.learning_rate, num_train_steps=args.steps))
    is_chief = strategy.extended.should_checkpoint  # only one of the workers writes files and shows progress
    callbacks = kp.callbacks.for_run(args.output, is_chief=is_chief)
    steps = {"epochs": args.steps // args.steps_per_epoch, "steps_per_epoch": args.steps_per_epoch}
    history = model.fit(train.repeat(), validation_data=validation, callbacks=callbacks, verbose=0, **steps)
    if is_chief:
        kp.runs.write_metrics(args, history, documents=prepared.report)
        kp.save_checkpoint(model, tokenizer, args.output)


def main(argv=None):
    args = parse(RaySettings, argv, description=__doc__, takes=TAKES)
    import ray.train.tensorflow

    ray.init(runtime_env={"env_vars": {"TF_USE_LEGACY_KERAS": "1"}})  # Ray Train imports tf.keras before we do
    resources = {"GPU": args.gpus_per_worker} if args.gpus_per_worker else {"CPU": 1}
    scaling = {"num_workers": args.workers, "use_gpu": args.gpus_per_worker > 0, "resources_per_worker": resources}
    ray.train.tensorflow.TensorflowTrainer(lambda: work(args), scaling_config=ray.train.ScalingConfig(**scaling)).fit()


if __name__ == "__main__":
    main()
