//! Reductions of plain slices on the CPU.
