"""`python -m spanishgas.scoring serve`: what the image of the Dockerfile's target `serve` starts."""

import os
import sys

os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")  # idle threads that spin slow a shared machine down

if __name__ == "__main__":
    from spanishgas.lifetime import end_with_parent

    end_with_parent()
    from spanishgas.scoring.serving import main

    sys.exit(main(sys.argv[1:]))
