import pytest

from lrtl_utils.study import answers


@pytest.mark.parametrize(
    ("difference", "said"), [(0.0114, "+1.1"), (-0.0003, "-0.03"), (0.0, "+0.0"), (0.1 + 0.2 - 0.3, "+0.0")]
)
def test_a_difference_keeps_its_sign_and_shows_no_error_of_floating_point(difference, said):
    assert answers.points(difference) == said
    assert answers.points(difference, -0.05, difference) == f"{said} [-5.0, {said}]"


@pytest.mark.parametrize(
    ("ratio", "said"), [(0.0000071, "0.0007%"), (0.0016, "0.2%"), (0.031, "3%"), (0.239, "24%"), (1.5, "150%")]
)
def test_a_share_is_never_nothing(ratio, said):
    assert answers.share(ratio) == said


@pytest.mark.parametrize(("number", "said"), [(0.9551, "0.955"), (1.0, "1"), (1234.5, "1,230"), (87_654.0, "87,700")])
def test_a_number_of_few_digits_has_no_exponent(number, said):
    assert answers.short(number) == said
