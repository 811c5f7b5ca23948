"""The contracts and the plumbing that every service uses."""

from shared.platform.imports import import_without

import_without("structlog", absent=("rich",))
