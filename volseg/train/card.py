"""The model card: what a person should read before using a model, as Markdown."""

from collections.abc import Sequence

from volseg.evaluate import Summary
from volseg.package import ModelInfo


def card_text(info: ModelInfo, summaries: Sequence[Summary]) -> str:
    """The card of a model with its scores on held-out cases."""
    training = info.training
    return f"""# {info.title}

{info.description}

**Research software, not a medical device.**

- For: {info.intended_use}
- Not for, limits: {info.limits}
- Input: {"; ".join(f"{channel.name} ({channel.modality})" for channel in info.channels)}
- Labels: {", ".join(f"{label.value} {label.name}" for label in info.labels)}
- Data: {training.dataset}, licence {training.dataset_licence}; {training.split}
- Training: {training.steps} steps, {training.epochs:.0f} epochs; volseg {info.volseg_version}, commit {info.git_commit}
- Licence of the weights: {info.data_licence}, as the data's

## Scores

{_scores(info, summaries)}
"""


def _scores(info: ModelInfo, summaries: Sequence[Summary]) -> str:
    if not summaries:
        return "None: no case was held out, and no run of the folds was named."
    return f"""{_score_table(summaries)}

Mean ± standard deviation over {summaries[0].cases} cases: {info.scores[0].cases}. HD95: 95th percentile of the symmetric
surface distance. NSD: surface Dice at 1 mm."""


def _score_table(summaries: Sequence[Summary]) -> str:
    rows = ["| label | Dice | HD95 (mm) | NSD | volume error (ml) |", "|---|---|---|---|---|"]
    rows += [
        f"| {row.name} | {_spread(row, 'dice', 4)} | {_spread(row, 'hausdorff95_mm', 2)} "
        f"| {_spread(row, 'surface_dice', 4)} | {_spread(row, 'volume_error_ml', 3)} |"
        for row in summaries
    ]
    means = [sum(row.mean[name] for row in summaries) / len(summaries) for name in ("dice", "hausdorff95_mm")]
    rows.append(f"| mean of labels | {means[0]:.4f} | {means[1]:.2f} | | |")
    return "\n".join(rows)


def _spread(row: Summary, measure: str, digits: int) -> str:
    return f"{row.mean[measure]:.{digits}f} ± {row.deviation[measure]:.{digits}f}"
