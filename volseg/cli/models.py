"""`volseg models`: the models that come with volseg."""

from volseg.cli.table import print_table


def models() -> None:
    """List the bundled models."""
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
