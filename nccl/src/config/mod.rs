//! Settings: the one table of environment variables, and what launchers say.
