"""Rules on single values: which addresses have a password, and are refused without showing it."""

import pytest

from beans_exp.errors import ConfigError
from beans_exp.schema.rules import without_password

SECRET = "hush"


@pytest.mark.parametrize(
    "address",
    [
        f"postgresql://me:{SECRET}@host/db",
        f"postgresql://me:with/slash{SECRET}@host/db",
        f"postgresql://me:a {SECRET}@host/db",
        f"postgresql://me:a@{SECRET}@host/db",
        f"http://me:a?{SECRET}@host",
        f"http://me:{SECRET}@host:port",
        f"http://me:{SECRET}#@host",
        f"mysql://host/db?passwd={SECRET}",
        f"mysql://host/db?ssl=1&PASSWORD={SECRET}",
        f"postgresql://host/db?sslpassword={SECRET}",
        f"mssql+pyodbc:///?odbc_connect=DRIVER%3Dx%3BPWD%3D{SECRET}",
        f"mssql+pyodbc:///?odbc_connect=PWD%253D{SECRET}",
        f"{{a: http://host, b: http://me:{SECRET}@host}}",
    ],
)
def test_an_address_with_a_password_is_refused_without_showing_it(address: str) -> None:
    with pytest.raises(ConfigError, match="key: must be without a password") as caught:
        without_password("key", address)
    assert SECRET not in str(caught.value)
    assert "PGPASSWORD" in str(caught.value) and ".pgpass" in str(caught.value)


@pytest.mark.parametrize(
    "address",
    [
        "https://host:5000/mlflow",
        "http://[::1]:5000",
        "http://host:port",
        "sqlite:////a:b@c/x.db",
        "postgresql+psycopg2://me@host/db?sslmode=require&passfile=/home/me/.pgpass",
        "grpc://host:13000",
    ],
)
def test_an_address_without_a_password_is_accepted(address: str) -> None:
    without_password("key", address)
