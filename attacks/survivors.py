"""Which images are still standing, packed so that the model sees little else."""

import torch
from torch import Tensor


class Survivors:
    """The images that each of P networks still classifies correctly, packed into [P,N,...].

    N is the largest number of survivors of any network. A network with fewer fills its row with
    images already lost; they are computed on and ignored. `bool(survivors)` is N > 0.

    Args:
        images: the whole batch, [P,B,C,H,W].
        labels: their classes, [P,B].
        logits: the model's logits on the clean images, [P,B,K].
        active: which images are to be attacked, bool [P,B].

    Attributes:
        all_images, all_labels, all_logits: the batch as given.
        images, labels: the survivors, [P,N,C,H,W] and [P,N].
        adversarial: the first breaking point of every image lost, the clean image elsewhere,
            [P,B,C,H,W].
    """

    def __init__(self, images: Tensor, labels: Tensor, logits: Tensor, active: Tensor) -> None:
        self.all_images, self.all_labels, self.all_logits = images, labels, logits
        self.adversarial = images.clone(memory_format=torch.contiguous_format)
        self.images, self.labels, self._alive = images, labels, active
        # Where each packed image is in the batch flattened to [P*B].
        self._rows = torch.arange(active.numel(), device=active.device).view_as(active)
        self._pack()

    def __bool__(self) -> bool:
        return self.labels.shape[1] > 0

    def pack(self, values: Tensor) -> Tensor:
        """What the survivors have of `values`: [P,B,...] -> [P,N,...], contiguous."""
        return _take(values, self._rows)

    def drop(self, points: Tensor, broken: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Notes the points that break the model and lets go of their images.

        Args:
            points: the points just visited, inside the threat, [P,N,C,H,W].
            broken: where the model is wrong at them, bool [P,N].
            state: whatever else the attack keeps for each image, [P,N,...] each.

        Returns:
            `state`, packed anew as `images` and `labels` are; N may have become smaller.
        """
        broken = broken & self._alive
        if not broken.any():
            return state
        self.adversarial.flatten(0, 1)[self._rows[broken]] = points[broken]
        return self.release(broken, *state)

    def release(self, done: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """Lets go of images that are done with: those not broken have survived the attack.

        Args:
            done: bool [P,N].
            state: as for `drop`.

        Returns:
            As `drop`.
        """
        self._alive = self._alive & ~done
        return self._pack(*state)

    def _pack(self, *state: Tensor) -> tuple[Tensor, ...]:
        width = int(self._alive.sum(1).max())
        if width == self._alive.shape[1]:
            return state
        # A stable sort brings the living to the front in the order of the batch.
        alive = self._alive.to(torch.uint8)
        front = alive.argsort(dim=1, descending=True, stable=True)[:, :width]
        first = torch.arange(len(front), device=front.device)[:, None] * self._alive.shape[1]
        kept = (self._rows, self._alive, self.images, self.labels, *state)
        self._rows, self._alive, self.images, self.labels, *state_ = (
            _take(values, first + front) for values in kept
        )
        return tuple(state_)


class Everyone(Survivors):
    """The whole batch, of which nobody is let go: for attacks that make images to train on."""

    def __init__(self, images: Tensor, labels: Tensor) -> None:
        self.all_images = self.images = images
        self.all_labels = self.labels = labels

    def pack(self, values: Tensor) -> Tensor:
        """`values`, since nobody is missing."""
        return values

    def drop(self, points: Tensor, broken: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        """`state`, with nobody dropped."""
        return state


def _take(values: Tensor, rows: Tensor) -> Tensor:
    """[P,B,...] and rows [P,N] of it flattened to [P*B,...] -> [P,N,...]."""
    return values.flatten(0, 1).index_select(0, rows.flatten()).unflatten(0, rows.shape)
