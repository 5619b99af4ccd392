//! Process groups, as users see them.
