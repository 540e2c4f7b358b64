//! Enough stack for what calls itself once for each level of nesting.
//!
//! A thread of the runtime has 2 MiB. What a level takes differs between builds by a factor of ten; the figure here is
//! that of a build without optimization, with room to spare, so that both behave alike. Shallow rules, which is nearly all,
//! run where they are.

/// Stack that one level of nesting may take.
const LEVEL: usize = 48 * 1024;
/// What there is besides, of the library's own.
const BASE: usize = 128 * 1024;
/// For sources of which the depth is not known yet: the parser's own limit of nesting, and chains of any length, whose
/// expressions are dropped one inside the other.
const UNKNOWN: usize = 64 << 20;

/// Runs what is nested this deep.
pub(super) fn for_depth<T>(depth: usize, action: impl FnOnce() -> T) -> T {
    let needed = BASE + depth * LEVEL;
    stacker::maybe_grow(needed, needed + BASE, action)
}

/// Runs what may be nested as deep as the parser lets it be.
pub(super) fn deepest<T>(action: impl FnOnce() -> T) -> T {
    stacker::maybe_grow(UNKNOWN, UNKNOWN, action)
}
