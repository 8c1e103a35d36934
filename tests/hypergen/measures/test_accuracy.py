import torch
from torch.nn import functional as F

import attacks
from tests.hypergen.batches import ACCURACY, attacked_batch


def test_accuracy_is_the_share_of_a_plain_loop(mixture, images, threat):
    batch = attacked_batch(mixture, *images, attacks.PGD(threat, steps=3), 4)
    found, loss = ACCURACY(mixture, batch), ACCURACY.surrogate_loss(mixture, batch)
    assert found.shape == loss.shape == (3,)
    for index in range(3):
        logits = mixture[index](batch.images)
        assert found[index] == (logits.argmax(1) == batch.labels).double().mean()
        torch.testing.assert_close(loss[index], F.cross_entropy(logits, batch.labels))


def test_it_is_measured_in_full_precision(mixture, images, threat, precisions):
    batch = attacked_batch(mixture, *images, attacks.FGSM(threat), 0)
    precisions.clear()
    ACCURACY(mixture, batch)
    assert precisions and set(precisions) == {"ieee"}
