"""The optimizer, learning-rate schedules and callbacks for `model.fit`."""
