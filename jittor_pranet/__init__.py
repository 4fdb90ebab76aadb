"""The programs: ``python -m jittor_pranet train|test|evaluate|demo|doctor``."""
