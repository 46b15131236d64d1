"""A Django without a project, for the tests of its release."""

import django
import pytest
from django.conf import settings
from django.test.utils import setup_databases, setup_test_environment, teardown_databases

settings.configure(
    DATABASES={
        name: {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}
        for name in ("default", "other")
    },
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
    INSTALLED_APPS=["cache"],
    SECRET_KEY="of tests",
    USE_TZ=False,
)
django.setup()


@pytest.fixture(scope="session", autouse=True)
def databases():
    setup_test_environment()
    config = setup_databases(verbosity=0, interactive=False, aliases=["default"])
    yield
    teardown_databases(config, verbosity=0)
