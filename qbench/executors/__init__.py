"""Where tasks run: on this machine (:mod:`qbench.executors.local`)."""
