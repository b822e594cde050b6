"""Which server a key of the environment is sent to."""

from __future__ import annotations

import pytest

from pf_mlflow.errors import BadInput
from pf_mlflow.running.model_variables import key_variable, named_model

BASE, ENDPOINT = "https://mine.openai.azure.com", "https://theirs.openai.azure.com"
OLD = {"OPENAI_API_TYPE": "azure", "OPENAI_API_KEY": "k", "OPENAI_API_BASE": BASE, "OPENAI_API_VERSION": "2023-05-15"}
NEW = {"AZURE_OPENAI_API_KEY": "a", "AZURE_OPENAI_ENDPOINT": ENDPOINT, "AZURE_OPENAI_DEPLOYMENT": "d"}


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({**OLD, "OPENAI_DEPLOYMENT_NAME": "d"}, ("k", BASE, "d", "2023-05-15")),
        ({**OLD, "OPENAI_API_DEPLOYMENT_NAME": "d"}, ("k", BASE, "d", "2023-05-15")),
        ({**OLD, "OPENAI_API_TYPE": "", "OPENAI_DEPLOYMENT_NAME": "d"}, ("k", BASE, "d", "2023-05-15")),
        ({**OLD, "OPENAI_API_VERSION": "", "OPENAI_DEPLOYMENT_NAME": "d"}, ("k", BASE, "d", "2024-10-21")),
        (
            {"OPENAI_API_KEY": "k", "OPENAI_API_BASE": BASE, "AZURE_OPENAI_DEPLOYMENT": "d"},
            ("k", BASE, "d", "2024-10-21"),
        ),
        ({**OLD, **NEW, "OPENAI_DEPLOYMENT_NAME": "o"}, ("k", BASE, "o", "2023-05-15")),
        ({**OLD, "OPENAI_API_BASE": "", **NEW}, ("a", ENDPOINT, "d", "2023-05-15")),
        (NEW, ("a", ENDPOINT, "d", "2024-10-21")),
        ({**NEW, "OPENAI_API_VERSION": "v"}, ("a", ENDPOINT, "d", "v")),
        ({**NEW, "OPENAI_API_KEY": "k", "OPENAI_API_VERSION": "v"}, ("k", None, None, None)),
        ({"OPENAI_API_KEY": "k"}, ("k", None, None, None)),
        ({"OPENAI_API_KEY": "k", "OPENAI_API_TYPE": "open_ai", "OPENAI_API_VERSION": "v"}, ("k", None, None, None)),
        ({"OPENAI_API_KEY": "k", "OPENAI_API_BASE": "http://llm:1/v1"}, ("k", "http://llm:1/v1", None, None)),
        ({"OPENAI_API_KEY": "k", "OPENAI_BASE_URL": "http://a", "OPENAI_MODEL": "m"}, ("k", "http://a", "m", None)),
    ],
)
def test_a_key_goes_where_the_variables_beside_it_lead(
    variables: dict[str, str], expected: tuple[str | None, ...]
) -> None:
    named = named_model(variables)
    assert named and (named.key, named.address, named.model, named.azure_version) == expected
    assert named.key == variables[key_variable(variables) or ""]


@pytest.mark.parametrize(
    ("variables", "says"),
    [
        (OLD, "OPENAI_API_KEY is set, which leads to Azure, but OPENAI_DEPLOYMENT_NAME is not"),
        (
            {**OLD, "OPENAI_API_BASE": "", "OPENAI_DEPLOYMENT_NAME": "d"},
            "but OPENAI_API_BASE is not; set it to https://",
        ),
        ({**OLD, "OPENAI_API_KEY": "", "OPENAI_DEPLOYMENT_NAME": "d"}, "OPENAI_API_TYPE=azure is set"),
        ({"OPENAI_API_KEY": "k", "OPENAI_API_VERSION": "v"}, "but OPENAI_API_BASE is not"),
        ({"OPENAI_API_KEY": "k", "OPENAI_API_BASE": BASE}, "but OPENAI_DEPLOYMENT_NAME is not"),
        ({"OPENAI_DEPLOYMENT_NAME": "d", "OPENAI_API_BASE": BASE}, "but OPENAI_API_KEY is not; set it to your key."),
        (
            {**NEW, "AZURE_OPENAI_ENDPOINT": ""},
            "AZURE_OPENAI_API_KEY is set, which leads to Azure, but AZURE_OPENAI_ENDP",
        ),
        ({**NEW, "AZURE_OPENAI_DEPLOYMENT": ""}, "but AZURE_OPENAI_DEPLOYMENT is not"),
        ({**OLD, "OPENAI_API_TYPE": "azure_ad"}, "OPENAI_API_TYPE='azure_ad' cannot be used"),
    ],
)
def test_half_of_the_variables_is_refused_by_name(variables: dict[str, str], says: str) -> None:
    with pytest.raises(BadInput) as told:
        named_model(variables)
    assert says in str(told.value)


def test_nothing_names_no_model() -> None:
    assert named_model({}) is None and key_variable({"OPENAI_API_KEY": ""}) is None
