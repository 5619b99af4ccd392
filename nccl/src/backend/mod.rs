//! Ways to run collectives.
