"""Texts of the values that lines of Python are made of: ordinary, edge and absurd ones."""

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

Text = SearchStrategy[str]


def pool(*texts: str) -> Text:
    """One of some texts; `a b c` stands for three."""
    return st.sampled_from([each for text in texts for each in text.split(" | ")])


NUMBERS = pool(
    "0 | 1 | 2 | 3 | 0.1 | 0.5 | 1.0 | 8/255 | -1 | -0.0 | 1e-30 | 1e30 | 1e308 | 2**63",
    "10**30 | 10**400 | float('nan') | float('inf') | True | None | '1' | 1j | [] | [1, 2]",
    "(0, 1) | object() | b'1' | np.float32(0.1) | np.int64(2) | np.float64('nan')",
    "np.bool_(True) | np.array(2) | np.array([1, 2]) | torch.tensor(0.1) | torch.tensor(2)",
    "torch.tensor([1, 2]) | Fraction(1, 2) | Decimal('0.1') | len | {}",
)
SMALL = pool("1 | 2 | 3")
EPSILON = st.one_of(pool("0.1 | 0.3 | 0 | 1 | np.float32(0.1) | 2.5"), NUMBERS)
NORM = st.one_of(pool("'linf' | 'l2' | 'l1'"), pool("'linf' | 'l0' | 'Linf' | None | 2 | '' | []"))
WORDS = pool(
    "'x' | '' | None | 3 | 'mlp' | 'a b' | 'x' * 5000 | b'x' | Path('run') | ['mlp']",
    "'a\\nb' | 'standard' | 'relu' | 'digits' | 'pgd' | '0:1' | '\\udcff' | object()",
    "nn.ReLU | linear",
)
MODELS = st.one_of(
    pool("linear | own()"),
    pool(
        "own('(z, 0)') | own('[z]') | own('{\"logits\": z}') | own('Answer(logits=z)')",
        "own('z.mul_(2)') | own('z * float(\"nan\")') | own('z * 1e30')",
        "own('z * 1e38 * 1e38') | own('z.detach()') | own('z.double()') | own('z.half()')",
        "own('z.long()') | own('z[:, :1]') | own('z[:1]') | own('z.argmax(1)')",
        "own('z.numpy(force=True)') | own('None') | own('z.sum()') | own('z * 0')",
        "own('z + 0j') | own('z.bool()') | own('z.softmax(1)')",
        "own('torch.rand(3, 3, generator=RNG)') | own('1/0') | linear.double() | linear.half()",
        "linear.train() | linear.bfloat16() | nn.Identity() | len | None | 3 | 'linear' | Own",
        "population[0] | h.ensemble(population) | population | linear.requires_grad_(False)",
        "nn.Sequential(nn.Flatten(), nn.Dropout(), linear.layer).eval()",
        "(lambda x: x.flatten(1))",
    ),
)
IMAGES = st.one_of(
    pool("images | images"),
    pool(
        "images.double() | images.half() | images.bfloat16() | images.numpy()",
        "images.tolist() | images.numpy().astype('f8') | images.numpy().astype('>f4')",
        "images.numpy()[::-1] | images.numpy().astype(object) | images * 2 - 1",
        "images * float('nan') | images + 2e-7 | images * 1e30 | images.long() | images.bool()",
        "images + 0j | images[:0] | images[0] | images[None] | images[:, :, :0]",
        "images.requires_grad_() | inference(images) | images[:1] | wide[..., ::2]",
        "images.transpose(2, 3) | images.to(memory_format=torch.channels_last)",
        "images[:1].expand(3, -1, -1, -1) | images.to_sparse() | images.to('meta')",
        "nn.Parameter(images) | images.numpy().astype('u1') | None | 'images' | []",
        "[[1, 2], [3]] | 3 | digits | images * 0 | torch.zeros(3, 1, 4, 4).fill_(1)",
        "(images > 0.5).float() | iter([1]) | images.round() * 255",
    ),
)
LABELS = st.one_of(
    pool("labels | labels"),
    pool(
        "labels.tolist() | labels.numpy() | labels.int() | labels.byte() | labels.float()",
        "labels > 0 | labels + 8 | labels - 5 | labels[:2] | labels[:, None] | labels[None]",
        "labels.numpy().astype('u2') | labels.numpy().astype('u8') | [0, 1, 10] | [0, 1, 2.5]",
        "(0, 1, 2) | None | '012' | 0 | labels * 10**15 | F.one_hot(labels)",
        "labels.to_sparse() | inference(labels) | labels[:0] | range(3) | iter([0, 1, 2])",
        "labels.flip(0)[:, None].expand(3, 3) | labels * 0 | ['0', '1', '2'] | labels + 0j",
        "np.array([0, 1, None]) | labels.float() * float('nan') | labels.to('meta')",
        "[[0], [1], [2]] | [10**30, 0, 1]",
    ),
)
SEEDS = pool(
    "[0, 1] | [0, 1] | range(2) | (0, 0) | np.arange(2) | torch.arange(2) | [0]",
    "[0, 1, 2] | [0.5, 1] | [-1, 2**63] | [2**64, 0] | None | 3 | 'ab' | [True, False]",
    "[None, 1] | iter([0, 1]) | [10**30, 1]",
)
PATHS = pool(
    "'base.safetensors' | 'run' | 'run/samples' | Path('base.safetensors') | 'plain.pt'",
    "'nowhere' | '' | '.' | 'images.npz' | None | 3 | b'run' | ['run', 'base.safetensors']",
    "[] | 'x' * 300 | '\\0' | 'a\\nb' | '\\udcff' | 'mine/network.safetensors'",
    "'unfinished' | 'run/config.json' | [[]] | '~/nowhere'",
)
INDICES = pool(
    "0 | -1 | 2 | 3 | -4 | slice(0, 2) | slice(None, None, -1) | slice(5, 9)",
    "slice(0, 3, 2) | True | np.int64(1) | torch.tensor(1) | 1.0 | None | 'a' | [0, 1]",
    "(0, 1) | 10**30 | slice(None, None, 0) | slice('a') | ... | np.array(1)",
    "slice(-10**30, 10**30) | slice(1.0, 2) | torch.tensor([1])",
)
