"""The layers of the design, checked on the imports of every module: nothing imports upwards, files never meet arrays."""

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "volseg"

LAYERS = {
    "words": (0, ["volseg.errors", "volseg.labels"]),
    "space": (1, ["volseg.geometry", "volseg.origin", "volseg.volume", "volseg.registry"]),
    "files": (2, ["volseg.io"]),
    "arrays": (
        2,
        [
            "volseg.resample",
            "volseg.preprocess",
            "volseg.models",
            "volseg.infer",
            "volseg.infer.tiles",
            "volseg.infer.stitch",
            "volseg.infer.restore",
            "volseg.postprocess",
            "volseg.metrics",
            "volseg.locate",
        ],
    ),
    "descriptions": (
        3,
        [
            "volseg.datasets",
            "volseg.config",
            "volseg.package",
            "volseg.zoo",
            "volseg.outputs",
            "volseg.series_choice",
        ],
    ),
    "work": (
        4,
        [
            "volseg.infer.engines",
            "volseg.infer.ensemble",
            "volseg.infer.sliding",
            "volseg.infer.regions",
            "volseg.infer.predictor",
            "volseg.cases",
            "volseg.check",
            "volseg.plan",
            "volseg.pretrain",
            "volseg.train",
            "volseg.evaluate",
            "volseg.report",
            "volseg.api",
        ],
    ),
    "command line": (5, ["volseg", "volseg.cli", "volseg.__main__"]),
}
"""Layer to (height, modules); a package stands for its modules unless a longer name is listed."""

HEAVY = {"torch", "monai"}
IMAGE_FILES = {"nibabel", "pydicom", "highdicom", "SimpleITK"}
ALONE = ("volseg", "volseg.infer", "volseg.__main__")
"""Names that stand for one module only: what lies below them is listed by itself."""


@dataclass(frozen=True)
class Source:
    """One module's dotted name and text."""

    name: str
    text: str


def read_sources() -> list[Source]:
    sources = []
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        sources.append(Source(name, path.read_text(encoding="utf-8")))
    return sources


def layer_of(module: str) -> str:
    best, found = "", ""
    for layer, (_, prefixes) in LAYERS.items():
        for prefix in prefixes:
            inside = module == prefix or (module.startswith(prefix + ".") and prefix not in ALONE)
            if inside and len(prefix) > len(best):
                best, found = prefix, layer
    return found


def imported(node: ast.AST, known: set[str]) -> Iterator[str]:
    """Modules an import statement names; `from volseg import geometry` names volseg.geometry."""
    if isinstance(node, ast.Import):
        yield from (alias.name for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module:
        for alias in node.names:
            child = f"{node.module}.{alias.name}"
            yield child if child in known else node.module


def problems(sources: list[Source]) -> list[str]:
    known = {source.name for source in sources}
    found = []
    for source in sources:
        layer = layer_of(source.name)
        if not layer:
            found.append(f"{source.name} is in no layer: add it to LAYERS in tests/test_layers.py")
            continue
        for node in ast.walk(ast.parse(source.text)):
            where = f"{source.name}:{getattr(node, 'lineno', 0)}"
            if isinstance(node, ast.ImportFrom) and node.level:
                found.append(f"{where} uses a relative import")
            if layer != "command line" and _is_print(node):
                found.append(f"{where} prints")
            for target in sorted(set(imported(node, known))):
                found.extend(f"{where} {problem}" for problem in _judge(layer, source.name, target))
    return found


def _is_print(node: ast.AST) -> bool:
    return isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"


def _judge(layer: str, module: str, target: str) -> Iterator[str]:
    library = target.split(".")[0]
    height = LAYERS[layer][0]
    if library in IMAGE_FILES and layer != "files":
        yield f"imports {library}; only volseg.io reads and writes images"
    if library in HEAVY and (height in {0, 1, 3} or layer == "files"):
        yield f"imports {library}; descriptions and files stay light, so that `volseg info` needs no torch"
    if library != "volseg":
        return
    target_layer = layer_of(target)
    if not target_layer:
        yield f"imports {target}, which is in no layer"
    elif module == "volseg":
        return  # the public names, imported lazily
    elif LAYERS[target_layer][0] > height:
        yield f"({layer}) imports {target} ({target_layer}): imports point down only"
    elif {layer, target_layer} == {"files", "arrays"}:
        yield f"({layer}) imports {target} ({target_layer}): files and arrays never meet"


def test_imports_point_down_and_files_never_meet_arrays():
    assert problems(read_sources()) == []


def test_no_import_cycles():
    sources = [source for source in read_sources() if source.name != "volseg"]
    known = {source.name for source in sources}
    graph = {}
    for source in sources:
        nodes = ast.walk(ast.parse(source.text))
        graph[source.name] = {name for node in nodes for name in imported(node, known) if name in known}
        graph[source.name].discard(source.name)
    assert list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("volseg.metrics", "from volseg.io import read_volume", "files and arrays never meet"),
        ("volseg.io.nifti", "import volseg.resample", "files and arrays never meet"),
        (
            "volseg.geometry",
            "def f():\n    from volseg.volume import Volume\n    import volseg.train.loop",
            "down only",
        ),
        ("volseg.labels", "from volseg import geometry", "down only"),
        ("volseg.infer.tiles", "from volseg.infer.predictor import Predictor", "down only"),
        ("volseg.api", "from volseg import predict", "down only"),
        ("volseg.train.loop", "import nibabel as nib", "only volseg.io"),
        ("volseg.report.preview", "if True:\n    from SimpleITK import ReadImage", "only volseg.io"),
        ("volseg.package", "import torch.nn", "needs no torch"),
        ("volseg.evaluate", "print('done')", "prints"),
        ("volseg.novelty", "import math", "in no layer"),
        ("volseg.io.itk", "from . import nifti", "relative import"),
    ],
)
def test_checker_catches_a_violation(name: str, text: str, expected: str):
    others = [Source(module, "") for module in ("volseg.geometry", "volseg.volume", "volseg.infer.predictor")]
    found = problems([*others, Source(name, text)])
    assert len(found) == 1
    assert expected in found[0]


def test_checker_accepts_what_the_design_allows():
    allowed = [
        Source("volseg.volume", "from volseg.geometry import Grid\nimport numpy"),
        Source("volseg.io.nifti", "import nibabel\nfrom volseg.volume import Volume"),
        Source("volseg.models.unetpp", "import torch\nfrom volseg.models import MODELS"),
        Source(
            "volseg.infer.predictor",
            "from volseg.infer.tiles import plan_tiles\nfrom volseg.io import read_volume",
        ),
        Source("volseg.cli.predict", "from volseg.api import predict_files\nprint('done')"),
    ]
    assert problems(allowed) == []
