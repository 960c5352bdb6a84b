"""From a scan to a label map, a picture and the volumes: the shortest useful program with volseg.

python pipelines/quickstart.py [SCAN] [OUTPUT_FOLDER]
"""

import sys
from pathlib import Path

import volseg

SAMPLE = Path(__file__).parents[1] / "data_samples" / "mni152_t1_brain.nii.gz"


def quickstart(scan: Path, folder: Path, *, model: str | Path = "hippocampus") -> dict[str, float]:
    """Write labels.nii.gz and preview.png into a folder; returns the volume of each label in ml."""
    folder.mkdir(parents=True, exist_ok=True)
    volume = volseg.read_volume(scan)
    label_map = volseg.predict(volume, model=model)
    volseg.write_label_map(label_map, folder / "labels.nii.gz", source=volume)
    volseg.draw_preview(volume, label_map, folder / "preview.png")
    return label_map.volumes_ml()


def main() -> None:
    """Run on a scan of yours, or on the sample."""
    scan = Path(sys.argv[1]) if len(sys.argv) > 1 else SAMPLE
    folder = Path(sys.argv[2]) if len(sys.argv) > 2 else Path("runs/quickstart")
    for name, volume_ml in quickstart(scan, folder).items():
        print(f"{name}: {volume_ml:.2f} ml")


if __name__ == "__main__":
    main()
