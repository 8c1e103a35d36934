import torch
from torch.nn import functional as F

from hypergen.measures import worst_class
from tests.hypergen.measures.figures import accuracy, figures, made, repeating


def test_by_hand():
    answers = torch.tensor([0, 0, 1, 1, 1, 3, 3, 3, 3, 0])
    labels = torch.tensor([0, 0, 1, 1, 1, 3, 3, 3, 3, 3])  # there are none of class 2
    images = F.one_hot(answers, 4).float()[:, None, None]
    assert worst_class(repeating(4, 1.0), images, labels).tolist() == [0.8]
    wrong = worst_class(repeating(4, 1.0, -1.0), images, labels)  # the other gives class 0 or 1
    assert wrong[1] == 0
    assert worst_class(repeating(4, 1.0), images[:9], labels[:9]).tolist() == [1]


def test_it_is_at_most_accuracy_and_of_one_class_accuracy(mixture, images):
    points, labels = images
    assert (
        figures(made("worst-class"), mixture, points, labels) <= accuracy(mixture, *images)
    ).all()
    one = labels == 3
    alone = figures(made("worst-class"), mixture, points[one], labels[one])
    assert alone.equal(accuracy(mixture, points[one], labels[one]))
