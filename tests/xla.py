"""XLA as the tests use it, to be set before JAX starts."""


def flags(devices: int) -> str:
    """So many virtual CPU devices, and programs that are compiled soon rather than run fast.

    Compiling is most of the time of the tests; without the fusion emitters it takes half.
    """
    return (
        f"--xla_force_host_platform_device_count={devices} "
        "--xla_backend_optimization_level=0 --xla_cpu_use_fusion_emitters=false"
    )
