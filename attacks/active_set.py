"""Which images are still to be attacked, packed so that the model sees little else."""

import torch
from torch import Tensor

from attacks.errors import AttackError


class ActiveSet:
    """The images of each of P networks that no point has broken yet, packed into [P,N,...].

    N is the largest number of active images of any network. A network with fewer fills its row with
    images that are no longer active; they are computed on and ignored. `bool(active_set)` is N > 0.

    Args:
        images: the whole batch, [P,B,C,H,W].
        labels: their classes, [P,B].
        logits: the model's logits on the clean images, [P,B,K].
        active: which images are to be attacked, bool [P,B].

    Attributes:
        all_images, all_labels, all_logits: the batch as given.
        images, labels: the active ones, [P,N,C,H,W] and [P,N].
        adversarial: the first adversarial point of every broken image, the clean image elsewhere,
            [P,B,C,H,W].
    """

    def __init__(self, images: Tensor, labels: Tensor, logits: Tensor, active: Tensor) -> None:
        self.all_images, self.all_labels, self.all_logits = images, labels, logits
        self.adversarial = images.clone(memory_format=torch.contiguous_format)
        self.images, self.labels, self._active = images, labels, active
        # Where each packed image is in the batch flattened to [P*B].
        self._rows = torch.arange(active.numel(), device=active.device).view_as(active)
        self._pack()

    def __bool__(self) -> bool:
        return self.labels.shape[1] > 0

    def pack(self, values: Tensor) -> Tensor:
        """The entries of `values` of the active images: [P,B,...] -> [P,N,...], contiguous."""
        return _take(values, self._rows)

    def mark_adversarial(
        self, points: Tensor, broken: Tensor, *state: Tensor
    ) -> tuple[Tensor, ...]:
        """Keeps the points that break the model, and deactivates their images.

        Args:
            points: the points just visited, inside the threat, [P,N,C,H,W].
            broken: where the model is wrong at them, bool [P,N].
            state: whatever else the attack keeps for each image, [P,N,...] each.

        Returns:
            `state`, packed anew as `images` and `labels` are; N may have become smaller.

        Raises:
            AttackError: points or verdicts of another shape than the active images have now.
        """
        if points.shape != self.images.shape or broken.shape != self.labels.shape:
            raise AttackError(
                f"expected points {list(self.images.shape)} and verdicts {list(self.labels.shape)} "
                f"of the active images, got {list(points.shape)} and {list(broken.shape)}: "
                "was something kept across mark_adversarial without being passed to it?"
            )
        broken = broken & self._active
        if not broken.any():
            return state
        self.adversarial.flatten(0, 1)[self._rows[broken]] = points[broken]
        return self.deactivate(broken, *state)

    def deactivate(self, done: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Attacks these images no further; those that were not broken are robust to the attack.

        Args:
            done: bool [P,N].
            state: as for `mark_adversarial`.

        Returns:
            As `mark_adversarial`.
        """
        self._active = self._active & ~done
        return self._pack(*state)

    def _pack(self, *state: Tensor) -> tuple[Tensor, ...]:
        width = int(self._active.sum(1).max())
        if width == self._active.shape[1]:
            return state
        # A stable sort brings the active ones to the front in the order of the batch.
        active = self._active.to(torch.uint8)
        front = active.argsort(dim=1, descending=True, stable=True)[:, :width]
        first = torch.arange(len(front), device=front.device)[:, None] * self._active.shape[1]
        packed = (self._rows, self._active, self.images, self.labels, *state)
        self._rows, self._active, self.images, self.labels, *state_ = (
            _take(values, first + front) for values in packed
        )
        return tuple(state_)


class FullBatch(ActiveSet):
    """The whole batch, of which every image stays active: for attacks that make training images."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.all_images = self.images = images
        self.all_labels = self.labels = labels

    def pack(self, values: Tensor) -> Tensor:
        """`values`, since every image is active."""
        return values

    def mark_adversarial(
        self, points: Tensor, broken: Tensor, *state: Tensor
    ) -> tuple[Tensor, ...]:
        """`state`, with every image still active."""
        return state


def _take(values: Tensor, rows: Tensor) -> Tensor:
    """[P,B,...] and rows [P,N] of it flattened to [P*B,...] -> [P,N,...]."""
    return values.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, rows.shape)
