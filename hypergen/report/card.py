"""A model card in the form of the Hugging Face hub: what is known of a network, and what is not."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from hypergen.report.tables import in_markdown, threat_text

HUB_DATASETS = {
    "mnist": "ylecun/mnist",
    "fashion-mnist": "zalando-datasets/fashion_mnist",
    "cifar10": "uoft-cs/cifar10",
}
"""What the hub calls data sets that it has."""
UNKNOWN = "Not written down."


@dataclass(frozen=True)
class Figure:
    """A share in [0,1] of `images` test images, None where nobody wrote down how many.

    interval: 95 % of it; threat: norm and epsilon of the attack, None for clean images.
    """

    name: str
    title: str
    share: float
    interval: Sequence[float] | None
    images: int | None
    threat: Mapping[str, Any] | None


@dataclass(frozen=True)
class Known:
    """What is known of a network; None, or no figure, where it is not.

    metadata: how it was made, as its file says; network: its layers, as PyTorch prints them;
    command: what makes it, in the folder OUT, at `place` in it.
    """

    name: str
    metadata: Mapping[str, Any]
    network: str
    weights: int
    recipe: str | None
    command: str | None
    place: str | None
    figures: Sequence[Figure]


def model_card(known: Known, license: str) -> str:
    """The card in Markdown, headed by what the hub reads."""
    return f"---\n{_head(known, license)}\n---\n\n{_body(known)}"


def _head(known: Known, license: str) -> str:
    from huggingface_hub import EvalResult, ModelCardData  # an extra

    dataset = known.metadata.get("dataset")
    on_hub = HUB_DATASETS.get(dataset or "")
    results = [
        EvalResult(
            task_type="image-classification",
            dataset_type=on_hub or dataset,
            dataset_name=dataset,
            dataset_split="test",
            metric_type="accuracy",
            metric_name=_title(figure),
            metric_value=figure.share,
        )
        for figure in known.figures
        if dataset is not None
    ]
    data = ModelCardData(
        license=license,
        library_name="hypergen",
        pipeline_tag="image-classification",
        tags=["hypergen", "adversarial-robustness", "pytorch"],
        datasets=[on_hub] if on_hub else None,
        metrics=["accuracy"],
        model_name=known.name,
        eval_results=results or None,
    )
    return data.to_yaml().strip()


def _body(known: Known) -> str:
    said, metadata = in_markdown, known.metadata
    shape = tuple(metadata["input_shape"])
    names = metadata.get("class_names") or []
    classes = ", ".join(names) or f"{metadata['num_classes']} classes, of which no names are known"
    layers = "\n".join(f"    {line}" for line in known.network.splitlines())
    makes = UNKNOWN
    if known.command:
        makes = f"    {known.command}\n\nThe network is then OUT/{said(known.place or '')}."
    return f"""# {said(known.name)}

An image classifier: {said(metadata["target"])} with {said(metadata["activation"])}, \
{known.weights:,} weights.

- images: {shape} (channels, height, width), each number in [0,1]
- classes: {said(classes)}
- data set: {said(metadata.get("dataset") or UNKNOWN)}
- training: {said(known.recipe or UNKNOWN)}
- made for the threat: {said(_threat(metadata))}
- written by hypergen: {said(metadata.get("version") or UNKNOWN)}

## The command that makes it

{makes}

## Figures

{_figures(known)}

## Limits

{_limits(known)}

## To load it

In plain PyTorch, into a module of these layers and names:

    model.load_state_dict(safetensors.torch.load_file("model.safetensors"))
    model.eval()

{layers}

With hypergen (`pip install "hypergen[hub]"`), from this folder or from the hub:

    model = hypergen.HubModel.from_pretrained("FOLDER")
    logits = model(images)
"""


def _title(figure: Figure) -> str:
    if figure.threat is None:
        return figure.title
    return f"{figure.title} ({threat_text(figure.threat)})"


def _threat(metadata: Mapping[str, Any]) -> str:
    if metadata.get("norm") is None or metadata.get("epsilon") is None:
        return UNKNOWN
    if "radius" in metadata:  # of a generator that was trained for a range of them
        return f"{metadata['norm']}, asked to withstand epsilon {metadata['radius']:.4g}"
    return metadata.get("norms_trained") or threat_text(metadata)


def _figures(known: Known) -> str:
    if not known.figures:
        return f"{UNKNOWN} Measure them: `hypergen evaluate FILE --attack standard --checks`."
    lines = ["| figure | % of test images | 95 % interval | images |", "|---|---|---|---|"]
    for figure in known.figures:
        ends = "not known"
        if figure.interval is not None:
            low, high = (100 * end for end in figure.interval)
            ends = f"{low:.1f} to {high:.1f}"
        images = "not known" if figure.images is None else f"{figure.images:,}"
        lines.append(
            f"| {in_markdown(_title(figure))} | {100 * figure.share:.2f} | {ends} | {images} |"
        )
    text = "\n".join(lines)
    return f"{text}\n\nThey were written down when the network was made, and not measured again."


def _limits(known: Known) -> str:
    lines = [
        "It is a network for research, and knows no images of other kinds than its data set.",
        "Against other norms, larger radii, noise, shifts or other changes nothing is said of it.",
    ]
    if not any(figure.name == "sra" for figure in known.figures):
        lines.append(
            "Its standard robust accuracy was not measured. What survives PGD alone may well fall "
            "to other attacks."
        )
    return "\n".join(f"- {line}" for line in lines)
