"""Which scans a pre-training sees: those of a collection's training side, its test images, and folders of anything."""

import logging
from collections.abc import Iterable
from pathlib import Path

from volseg.datasets import DATASETS, Case, Dataset
from volseg.datasets.listing import find_images, is_hidden
from volseg.datasets.nnunet_raw import NnunetRaw, numbered_channel
from volseg.datasets.recognise import recognise
from volseg.errors import InputError, counted, few
from volseg.io.formats import KNOWN_SUFFIXES, partner_of, stem, suffix_of
from volseg.io.stream import readable
from volseg.pretrain.settings import PretrainConfig
from volseg.train.split import split_dataset

_logger = logging.getLogger(__name__)

FOLDER = "folder"
"""The layout of a folder in which every scan is a case."""

_HEADERS = (".hdr", ".nhdr", ".mhd")


def is_collection(root: Path) -> bool:
    """Whether a path is, or holds, a labelled collection of some known layout.

    Raises:
        InputError: there is no such folder or file, or a list that would tell cannot be read.
    """
    if not root.exists():
        raise InputError(f"{root}: there is no such folder or file; check the path.")
    with readable(root):
        inner = [path for path in sorted(root.iterdir()) if path.is_dir()] if root.is_dir() else []
    for name in DATASETS.names():
        adapter = DATASETS.get(name)
        places = [root] if adapter.searches_subfolders else [root, *inner]
        if any(adapter.looks_like(place) for place in places if not is_hidden(place.name)):
            return True
    return False


def with_root(config: PretrainConfig, root: Path, layout: str | None = None) -> tuple[PretrainConfig, str]:
    """The settings for the scans under a path, and in words what the path was taken for.

    A labelled collection replaces the dataset of the settings; a folder of scans is added to what they name.

    Args:
        config: the settings.
        root: a collection as it was downloaded, or a folder of scans.
        layout: the kind of collection, or "folder" to take every scan in it.

    Raises:
        ConfigError: no layout of that name.
        InputError: there is no such folder, or it could be several collections.
    """
    if layout != FOLDER and (layout is not None or is_collection(root)):
        found = recognise(root, layout)
        return config.model_copy(update={"dataset": found.dataset}), found.why
    if not root.is_dir():
        raise InputError(f"{root}: is no folder; give a folder of scans.")
    folders = tuple(dict.fromkeys((*config.folders, root.absolute())))
    return config.model_copy(
        update={"folders": folders}
    ), f"a folder in which every scan is a case{_beside(config, root)}"


def _beside(config: PretrainConfig, root: Path) -> str:
    if config.dataset is None:
        return ""
    try:
        return f", beside the training cases of {config.dataset.title}"
    except InputError as error:
        raise InputError(
            f"{error} The configuration names that collection, beside which {root} is learned from; add dataset=null to learn "
            "from the folder alone."
        ) from None


def find_cases(config: PretrainConfig) -> list[Case]:
    """Every case to learn from, without its label map, by rising id.

    The cases that the collection's fold holds out are never among them, also where a folder or a list of test images holds
    their files.

    Raises:
        ConfigError: the split does not fit the collection.
        InputError: the collection or a folder cannot be read, or there is no scan at all.
    """
    training, held_out = ([], []) if config.dataset is None else split_dataset(config.dataset, config.split)
    found = list(training)
    if config.dataset is not None and config.test_images:
        found += unlabelled_cases(config.dataset)
    for folder in config.folders:
        found += folder_cases(folder)
    hidden = {path.resolve() for case in held_out for path in case.images if path.is_file()}
    series = {key for case in held_out for key in case.series}
    cases: dict[tuple[Path | str, ...], Case] = {}
    for case in found:
        files = tuple(path.resolve() for path in case.images)
        if hidden.isdisjoint(files) and series.isdisjoint(case.series):
            cases.setdefault(
                (*files, *case.series), Case(case.id, case.images, None, case.patient, case.series)
            )
    if not cases:
        places = [str(folder) for folder in config.folders]
        places += [] if config.dataset is None else [str(config.dataset.root)]
        raise InputError(
            f"{', '.join(places) or 'the settings'}: holds no scan to learn from; expected NIfTI, NRRD, MetaImage or MGH "
            "files or DICOM series at any depth, or a labelled collection."
        )
    return sorted(_named_once(cases.values()), key=lambda case: case.id)


def unlabelled_cases(dataset: Dataset) -> list[Case]:
    """The images without labels of a collection whose layout has a folder for them, imagesTs/.

    There is one file per case or, in nnU-Net's layout, per channel.
    """
    images = find_images(dataset.root / "imagesTs", KNOWN_SUFFIXES)
    if not isinstance(dataset, NnunetRaw):
        return [Case(f"imagesTs/{stem(path)}", (path,)) for path in images]
    channels: dict[str, dict[int, Path]] = {}
    for path in images:
        numbered = numbered_channel(stem(path))
        if numbered is not None:
            channels.setdefault(numbered[0], {})[numbered[1]] = path
    count = len(dataset.channel_names())
    return [
        Case(f"imagesTs/{name}", tuple(files[number] for number in range(count)))
        for name, files in channels.items()
        if sorted(files) == list(range(count))
    ]


def folder_cases(folder: Path) -> list[Case]:
    """Every image file and every readable DICOM series below a folder.

    Raises:
        InputError: there is no such folder, or it may not be read.
    """
    if not folder.is_dir():
        raise InputError(f"{folder}: there is no such folder; check the path.")
    images = find_images(folder, KNOWN_SUFFIXES)
    files = [
        Case(path.relative_to(folder).as_posix(), (path,)) for path in images if not _is_second_file(path)
    ]
    return files + _series_cases(folder)


def _series_cases(folder: Path) -> list[Case]:
    from volseg.io.dicom.index import index_series  # noqa: PLC0415 - pydicom loads when it is needed
    from volseg.io.dicom.pairing import smallest_source  # noqa: PLC0415

    summaries = index_series(folder)
    refused = [f"{summary.key} ({summary.text})" for summary in summaries if summary.verdict == "refused"]
    if refused:
        _logger.warning("%s: %s left out: %s", folder, counted(len(refused), "DICOM volume"), few(refused, 3))
    return [
        Case(
            summary.key,
            (smallest_source(summary, summaries, folder),),
            None,
            f"{summary.patient} of {folder}" if summary.patient else "",
            (summary.key,),
        )
        for summary in summaries
        if summary.verdict == "ok"
    ]


def _is_second_file(path: Path) -> bool:
    """Whether a file holds the voxels of a header beside it (scan.img of scan.hdr)."""
    partner = partner_of(path)
    return suffix_of(path) not in _HEADERS and partner is not None and partner.exists()


def _named_once(cases: Iterable[Case]) -> list[Case]:
    """The cases, those of one id told apart by a number."""
    seen: dict[str, int] = {}
    named = []
    for case in cases:
        seen[case.id] = seen.get(case.id, 0) + 1
        name = case.id if seen[case.id] == 1 else f"{case.id} ({seen[case.id]})"
        named.append(Case(name, case.images, None, case.patient, case.series))
    return named
