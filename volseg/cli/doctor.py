"""`volseg doctor`: versions, devices and the state of the bundled models, for bug reports."""

import typer

from volseg.cli.table import print_table

LIBRARIES = (
    "volseg", "torch", "numpy", "scipy", "nibabel", "SimpleITK", "pydicom", "monai", "pydantic", "typer", "safetensors",
    "isal", "blosc2", "matplotlib",
)  # fmt: skip


def doctor() -> None:
    """Show versions and devices, and test the bundled models.

    The exit code is 1 if a model fails.
    """
    _print_versions()
    _print_devices()
    if not _test_models():
        raise typer.Exit(1)


def _print_versions() -> None:
    import platform
    from importlib.metadata import PackageNotFoundError, version

    print(f"python {platform.python_version()} on {platform.platform()}")
    rows = []
    for library in LIBRARIES:
        try:
            rows.append([library, version(library)])
        except PackageNotFoundError:
            rows.append([library, "not installed"])
    print_table(["library", "version"], rows)


def _print_devices() -> None:
    import os

    import torch

    print(f"cpu     {os.cpu_count()} cores, {torch.get_num_threads()} threads for torch")
    if not torch.cuda.is_available():
        print("cuda    none")
    for index in range(torch.cuda.device_count()):
        device = torch.cuda.get_device_properties(index)
        print(f"cuda    {index}: {device.name}, {device.total_memory / 2**30:.1f} GiB")


def _test_models() -> bool:
    """Check the bundled models' checksums and golden cases; print a line each; whether all are well."""
    from volseg.errors import VolsegError
    from volseg.infer.predictor import check_golden
    from volseg.package import load_package
    from volseg.zoo import packages

    well = True
    for name, path in packages().items():
        try:
            package = load_package(path)
            dice = check_golden(package, device="cpu")
            print(
                f"model   {name} {package.info.version}: checksums right, golden case right (Dice {dice:.4f})"
            )
        except VolsegError as error:
            well = False
            print(f"model   {name}: FAILED: {error}")
    if not packages():
        print("model   none bundled")
    return well
