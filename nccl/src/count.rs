//! Who holds how many elements in each collective: every check of lengths and roots.
