"""`Workers`: the processes that train one model together, one on each machine."""

import tensorflow as tf


class Workers:
    """Exchanges values between the workers of a `tf.distribute` strategy. A strategy for one machine has one worker.

    With several workers, every method waits until all of them have called it.

    Args:
      strategy: the strategy of the model.
    """

    def __init__(self, strategy: tf.distribute.Strategy) -> None:
        resolver = strategy.cluster_resolver
        spec = resolver.cluster_spec() if resolver else None
        self.count = sum(spec.num_tasks(job) for job in ("chief", "worker") if job in spec.jobs) if spec else 1
        self.count = max(self.count, 1)
        self.is_chief = strategy.extended.should_checkpoint  # the worker that writes files
        self._strategy = strategy
        self._mean = tf.function(self._mean_over_replicas, autograph=False)

    def mean(self, value: float) -> float:
        """The mean of the workers' values. It is computed over replicas, of which each worker has the same number."""
        if self.count == 1:
            return value
        return float(self._mean(tf.constant(value, tf.float64)))

    def any(self, flag: bool) -> bool:
        """Whether the flag is set on any worker."""
        return self.mean(float(flag)) > 0

    def agree(self, value: float) -> bool:
        """Whether all workers have the same value."""
        mean = self.mean(value)
        return not self.any(abs(mean - value) > 1e-9 * max(1.0, abs(mean)))

    def copy_from_chief(self, variables: list[tf.Variable]) -> None:
        """Give the variables of every worker the values that they have on the chief.

        This is needed because values that each worker computes itself, such as co-occurrence embeddings, differ between
        machines (by 2e-6).
        """
        if self.count == 1:
            return

        def chiefs_values() -> list[tf.Tensor]:
            replica = tf.distribute.get_replica_context()
            is_first = replica.replica_id_in_sync_group == 0  # the first replica of the chief
            values = [tf.where(is_first, variable, tf.zeros_like(variable)) for variable in variables]
            return replica.all_reduce(tf.distribute.ReduceOp.SUM, values)

        values = tf.function(lambda: self._strategy.run(chiefs_values), autograph=False)()
        for variable, value in zip(variables, values, strict=True):
            variable.assign(self._strategy.experimental_local_results(value)[0])

    def _mean_over_replicas(self, value: tf.Tensor) -> tf.Tensor:
        def mean(value: tf.Tensor) -> tf.Tensor:
            return tf.distribute.get_replica_context().all_reduce(tf.distribute.ReduceOp.MEAN, tf.identity(value))

        return self._strategy.experimental_local_results(self._strategy.run(mean, args=(value,)))[0]
