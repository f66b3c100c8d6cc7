import pytest

from agents.collectors.power_budget import PowerBudget
from skewscope.contracts import Place
from skewscope.errors import NoData, UsageError


def _collect(**options):
    told = {f"power.{name}": value for name, value in options.items()}
    return list(PowerBudget(Place(options=told)).collect())


def test_the_site_says_what_the_rack_may_draw():
    assert _collect(domain="r7", budget_watts="22400") == [("skewscope_power_budget_watts", ("r7",), 22400.0)]


@pytest.mark.parametrize("options", [{}, {"domain": "r7"}, {"budget_watts": "22400"}])
def test_without_both_options_there_is_no_data(options):
    with pytest.raises(NoData, match=r"power\.budget_watts"):
        _collect(**options)


@pytest.mark.parametrize("told", ["much", "nan", "-1", "0", "inf"])
def test_what_is_no_power_is_refused(told):
    with pytest.raises(UsageError, match="22400"):
        _collect(domain="r7", budget_watts=told)
