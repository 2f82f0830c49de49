import pytest

from lrtl_utils.study import answers


@pytest.mark.parametrize(
    ("difference", "said"), [(0.0114, "+1.1"), (-0.0003, "-0.03"), (0.0, "+0.0"), (0.1 + 0.2 - 0.3, "+0.0")]
)
def test_a_difference_keeps_its_sign_and_shows_no_error_of_floating_point(difference, said):
    assert answers.points(difference) == said
    assert answers.points(difference, -0.05, difference) == f"{said} [-5.0, {said}]"
