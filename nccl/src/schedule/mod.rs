//! Collectives as data: who sends which range to whom, in which step.
