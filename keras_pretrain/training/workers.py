"""The processes that train one model together, one on each machine."""

import tensorflow as tf


class Workers:
    """What the workers of a `tf.distribute` strategy have to agree on. With other strategies there is one worker.

    Args:
      strategy: the model's.
    """

    def __init__(self, strategy: tf.distribute.Strategy):
        resolver = strategy.cluster_resolver
        spec = resolver.cluster_spec() if resolver else None
        self.count = sum(spec.num_tasks(job) for job in ("chief", "worker") if job in spec.jobs) if spec else 1
        self.count = max(self.count, 1)
        self.is_chief = strategy.extended.should_checkpoint  # the one that writes
        self._strategy = strategy
        self._add_up = tf.function(self._in_replicas, autograph=False)

    def mean(self, value: float) -> float:
        """Over all workers, which wait for each other here; each has as many replicas."""
        if self.count == 1:
            return value
        return float(self._add_up(tf.constant(value, tf.float64)))

    def any(self, flag: bool) -> bool:
        """Whether it is so on any of them."""
        return self.mean(float(flag)) > 0

    def agree(self, value: float) -> bool:
        """Whether all of them have the same one."""
        mean = self.mean(value)
        return not self.any(abs(mean - value) > 1e-9 * max(1.0, abs(mean)))

    def _in_replicas(self, value):
        def add_up(value):
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, tf.identity(value))

        return self._strategy.experimental_local_results(self._strategy.run(add_up, args=(value,)))[0]
