"""A management node that looks at its hosts before it deploys agents (`surveyed_node`), and ends by SIGKILL
at a chosen step boundary (`doomed_node`).
"""

import sys

from mn import app
from tests.integration.crash.doomed_node import run
from tests.integration.hosts.surveyed_node import SurveyingDeployer

if __name__ == "__main__":
    app.LocalDeployer = SurveyingDeployer  # type: ignore[misc]
    sys.exit(run())
