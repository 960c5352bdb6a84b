"""`volseg models`: the models that come with volseg, and the networks that can be trained."""

import json
from typing import TYPE_CHECKING, Annotated, Any

import typer

from volseg.cli.table import print_table

if TYPE_CHECKING:
    from volseg.models.catalogue import Variant
    from volseg.models.cost import Cost

_PATCHES = {2: (256, 256), 3: (96, 96, 96)}
_CHANNELS, _LABELS = 1, 3
_GIB = 1 << 30


def models(
    architectures: Annotated[
        bool,
        typer.Option("--architectures", help="List the networks that can be trained, with what they cost."),
    ] = False,
    dims: Annotated[int | None, typer.Option("--dims", help="Only networks in 2D or in 3D: 2 or 3.")] = None,
    as_json: Annotated[bool, typer.Option("--json", help="The list of networks as JSON.")] = False,
    yaml: Annotated[
        str | None,
        typer.Option("--yaml", metavar="NAME", help="The lines of one network for a training configuration."),
    ] = None,
) -> None:
    """List the bundled models, or the networks that can be trained."""
    from volseg.errors import ConfigError

    if dims not in (None, *_PATCHES):
        raise ConfigError(f"--dims is 2 or 3, found {dims}.")
    if yaml is not None:
        _print_yaml(yaml, dims)
    elif architectures:
        _print_architectures(dims, as_json=as_json)
    elif as_json or dims is not None:
        raise ConfigError(
            "--json and --dims are about the networks that can be trained; add --architectures."
        )
    else:
        _print_bundled()


def _print_bundled() -> None:
    from volseg.package import load_package
    from volseg.zoo import packages

    rows = []
    for name, path in packages().items():
        info = load_package(path).info
        labels = ", ".join(label.name for label in info.labels)
        rows.append([name, info.version, f"{path.stat().st_size / 1e6:.1f}", labels, info.title])
    if not rows:
        print("no models are bundled with this volseg; give `volseg predict` a .volseg file with --model")
        return
    print_table(["name", "version", "MB", "labels", "title"], rows)


def _print_architectures(dims: int | None, *, as_json: bool) -> None:
    from volseg.models.catalogue import CATALOGUE
    from volseg.models.cost import cost

    costs = [
        (
            variant,
            dimensions,
            cost(
                variant.architecture(dimensions),
                _PATCHES[dimensions],
                in_channels=_CHANNELS,
                label_count=_LABELS,
            ),
        )
        for variant in CATALOGUE
        for dimensions in variant.dimensions
        if dims in (None, dimensions)
    ]
    if as_json:
        print(json.dumps([_fields(*row) for row in costs], indent=2))
        return
    print_table(
        ["name", "dims", "parameters", "GFLOPs", "GiB", "GiB to train", "paper"],
        [_row(*row) for row in costs],
    )
    patches = " and ".join(" x ".join(map(str, _PATCHES[n])) for n in (2, 3) if dims in (None, n))
    print(
        f"\n  For one input of {patches} voxels (or the next larger that suits the network), {_CHANNELS} channel and "
        f"{_LABELS} labels, in\n  single precision. A multiplication and an addition are two operations. GiB: weights and "
        "tensors of an inference,\n  and of a training step without the states of the optimiser. `volseg models --yaml NAME` "
        "prints one for a configuration."
    )


def _row(variant: "Variant", dimensions: int, cost: "Cost") -> list[str]:
    return [
        variant.name,
        str(dimensions),
        f"{cost.parameters:,}",
        f"{cost.flops / 1e9:.1f}",
        f"{cost.inference_bytes / _GIB:.2f}",
        f"{cost.training_bytes / _GIB:.2f}",
        variant.paper,
    ]


def _fields(variant: "Variant", dimensions: int, cost: "Cost") -> dict[str, Any]:
    from dataclasses import asdict

    return {
        "name": variant.name,
        "dimensions": dimensions,
        "paper": variant.paper,
        "note": variant.note,
        "architecture": variant.fields(dimensions),
        **asdict(cost),
    }


def _print_yaml(name: str, dims: int | None) -> None:
    from yaml import safe_dump

    from volseg.errors import ConfigError
    from volseg.models.catalogue import variant

    chosen = variant(name)
    dimensions = dims or chosen.dimensions[-1]
    if dimensions not in chosen.dimensions:
        raise ConfigError(f"{name} exists in {chosen.dimensions[0]}D only.")
    print(f"# {name}: {chosen.note} ({chosen.paper})")
    print(
        safe_dump({"architecture": chosen.fields(dimensions)}, sort_keys=False, default_flow_style=None),
        end="",
    )
