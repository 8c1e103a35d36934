"""Draws modules and images for them, as text."""

from hypothesis import strategies as st

LAYERS = (
    "nn.ReLU()", "nn.ReLU(True)", "nn.Tanh()", "nn.GELU()", "nn.LeakyReLU(0.1, True)",
    "nn.Softmax(1)", "nn.BatchNorm2d({c})", "nn.BatchNorm2d({c}, affine=False)",
    "nn.GroupNorm(1, {c})", "nn.BatchNorm2d({c}, track_running_stats=False)",
    "nn.InstanceNorm2d({c})", "nn.PReLU({c})", "nn.MaxPool2d(2)", "nn.MaxPool2d(3, 1, 1)",
    "nn.MaxPool2d(2, ceil_mode=True)", "nn.LPPool2d(2, 2)", "nn.AvgPool2d(2)",
    "nn.AvgPool2d(3, 2, 1, count_include_pad=False)", "nn.AdaptiveAvgPool2d(2)",
    "nn.AdaptiveMaxPool2d((1, 2))", "nn.Dropout(0.5)", "nn.Dropout2d()",
    "nn.Upsample(scale_factor=2)", "nn.PixelUnshuffle(1)", "nn.ZeroPad2d((1, 0, 2, 1))",
    "nn.ReflectionPad2d(1)", "nn.Identity()", "nn.LocalResponseNorm(2)", "nn.Fold((1, 1), 1)",
    "nn.Softmax2d()", "nn.CELU()", "nn.RReLU()", "nn.ConvTranspose2d({c}, {c}, 2, 2)",
    "nn.Conv2d({c}, {c}, 3, padding=1, groups={c})",
    "nn.utils.parametrizations.weight_norm(nn.Conv2d({c}, {c}, 1))", "nn.Hardswish(True)",
    "nn.utils.parametrizations.spectral_norm(nn.Conv2d({c}, {c}, 3))", "nn.Linear(4, 4)",
    "nn.LayerNorm(4)", "nn.Flatten(2)", "nn.Conv2d({c}, {c}, 1, dtype=torch.float64)",
    "nn.Threshold(0.1, 0)",
)  # fmt: skip
FORMATS = (
    "", ".double()", ".to(memory_format=torch.channels_last)", ".transpose(2, 3)", "[:, :, ::2]",
    "[:1]", "[:0]", ".bfloat16()", ".expand(2, -1, -1, -1)", ".requires_grad_()", ".flip(3)",
    ".half()",
)  # fmt: skip
PADDINGS = (
    "0", "1", "(0, 2)", "'same'", "'valid'", "2",
)  # fmt: skip


@st.composite
def modules(draw) -> str:
    """`module, images`: a few layers behind one another, the last to logits."""
    channels = draw(st.integers(1, 3))
    count = channels
    layers = []
    for _ in range(draw(st.integers(1, 4))):
        if draw(st.integers(0, 2)):
            layers.append(draw(st.sampled_from(LAYERS)).format(c=count))
        else:
            filters = draw(st.integers(1, 3)) * count
            layers.append(_convolution(draw, count, filters))
            count = filters
    dtype = draw(st.sampled_from(["", "", "", ".double()", ".bfloat16()"]))
    size = draw(st.tuples(st.integers(1, 9), st.integers(1, 9)))
    rows = draw(st.sampled_from((1, 1, 2, 5)))
    images = f"torch.rand({rows}, {channels}, {size[0]}, {size[1]}){draw(st.sampled_from(FORMATS))}"
    tail = draw(st.sampled_from(["nn.Flatten()", "nn.Flatten(), nn.LazyLinear(3)", "nn.Flatten()"]))
    if "Lazy" in tail:
        tail = "nn.AdaptiveAvgPool2d(1), nn.Flatten(), " + f"nn.Linear({count}, 3)"
    layers.append(tail)
    return f"nn.Sequential({', '.join(layers)}){dtype}, {images}{dtype}"


def _convolution(draw, channels: int, filters: int) -> str:
    kernel = draw(st.one_of(st.integers(1, 5), st.tuples(st.integers(1, 5), st.integers(1, 7))))
    stride = draw(st.sampled_from((1, 1, 2, (1, 2))))
    padding = draw(st.sampled_from(PADDINGS))
    mode = draw(st.sampled_from(["", "", ", padding_mode='circular'", ", bias=False"]))
    more = draw(st.sampled_from(["", "", ", dilation=2", f", groups={channels}"]))
    if padding == "'same'":
        stride = 1
    return f"nn.Conv2d({channels}, {filters}, {kernel}, {stride}, {padding}{more}{mode})"
