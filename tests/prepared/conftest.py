import pytest


@pytest.fixture(scope="session")
def ray_engine():
    """Two processors of this machine as a cluster."""
    ray = pytest.importorskip("ray", reason="Ray is not installed: pip install -e '.[distributed]'")
    from keras_pretrain.prepared import RayEngine

    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, configure_logging=False)
    yield RayEngine()
    ray.shutdown()
