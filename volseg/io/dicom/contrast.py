"""What a series shows bright: contrast agent in CT, weighting in MR. Told by physics, and left empty when unsure.

CT, by ContrastBolusAgent (0018,0010): "with agent" where one is named, "without agent" where the text denies one, and
"" where the attribute is absent or empty, which says nothing: many scanners leave it out.

MR, by times in ms (Bernstein, King, Zhou 2004, "Handbook of MRI Pulse Sequences", chapters 7, 14 and 16):

- "DWI": a b-value above 0, whatever else.
- echo planar without a b-value (BOLD, perfusion): "".
- inversion recovery: long inversion (1500 or more) and long echo (60 or more): "FLAIR"; medium inversion (300 to 1500)
  and short echo (30 or less): "T1" (MP-RAGE, T1 FLAIR); others, such as STIR: "".
- spin echo: long echo (60 or more) and long repetition (1500 or more): "T2"; short echo (30 or less) and short
  repetition (1000 or less): "T1"; short echo (35 or less) and long repetition (1500 or more): "PD".
- gradient echo: echo of at most 10 with repetition of at most 50 and a flip angle from 5 to 30 degrees, or with a
  repetition of 80 to 400 and a flip angle of 50 degrees or more: "T1" (spoiled); others may be T2*, or balanced: "".
"""

from collections.abc import Sequence

from volseg.io.dicom.frame import Frame, Traits

_NO_AGENT = frozenset(
    {"no", "none", "n", "0", "without", "w/o", "ohne", "nativ", "native", "non", "unenhanced"}
)


def contrast_of(frames: Sequence[Frame]) -> str:
    """The contrast of the frames of one stack: see the module for the words and rules."""
    first = frames[0]
    if first.series.modality == "CT":
        return _agent(first.series.contrast_agent)
    if first.series.modality == "MR":
        b_values = [frame.traits.b_value for frame in frames if frame.traits.b_value is not None]
        return _weighting(first.traits, max(b_values, default=0.0))
    return ""


def _agent(text: str) -> str:
    words = text.strip().lower()
    if not words:
        return ""
    return "without agent" if words in _NO_AGENT else "with agent"


def _weighting(traits: Traits, b_value: float) -> str:
    sequence = set(traits.scanning_sequence.upper().replace("\\", " ").replace(",", " ").split())
    if b_value > 0:
        return "DWI"
    echo, repetition = traits.echo_time_ms, traits.repetition_time_ms
    if "EP" in sequence or echo is None:
        return ""
    if "IR" in sequence or traits.inversion_time_ms:
        return _inversion_weighting(echo, traits.inversion_time_ms or 0.0)
    if "SE" in sequence and repetition is not None:
        return _spin_echo_weighting(echo, repetition)
    if "GR" in sequence and repetition is not None:
        return _gradient_echo_weighting(echo, repetition, traits.flip_angle or 0.0)
    return ""


def _inversion_weighting(echo_ms: float, inversion_ms: float) -> str:
    if inversion_ms >= 1500 and echo_ms >= 60:
        return "FLAIR"
    return "T1" if 300 <= inversion_ms < 1500 and echo_ms <= 30 else ""


def _spin_echo_weighting(echo_ms: float, repetition_ms: float) -> str:
    if repetition_ms >= 1500:
        return "T2" if echo_ms >= 60 else "PD" if echo_ms <= 35 else ""
    return "T1" if repetition_ms <= 1000 and echo_ms <= 30 else ""


def _gradient_echo_weighting(echo_ms: float, repetition_ms: float, flip_degrees: float) -> str:
    if echo_ms > 10:
        return ""
    is_fast = repetition_ms <= 50 and 5 <= flip_degrees <= 30
    is_plane_by_plane = 80 <= repetition_ms <= 400 and flip_degrees >= 50
    return "T1" if is_fast or is_plane_by_plane else ""
