//! How many entries may keep their parsed form.
//!
//! A parsed document takes several times the memory of its bytes, and is asked for again mostly while it is young: by its
//! writer, by the watches that tell of it, by the next write to it. So the forms made last are kept, up to a bound on the
//! bytes they were made from, and older ones are made anew when somebody asks.

use std::collections::VecDeque;
use std::sync::{Mutex, PoisonError, Weak};

use crate::entry::Fields;

/// Bytes whose parsed forms are kept. A form takes about six to ten times as much.
const KEPT: usize = 4 << 20;
/// What the smallest entry counts for: a form costs something whatever it was made from.
const LEAST: usize = 256;

/// The entries that keep their parsed form, oldest first.
#[derive(Default)]
pub(crate) struct Parsed(Mutex<Young>);

#[derive(Default)]
struct Young {
    entries: VecDeque<(Weak<Fields>, usize)>,
    bytes: usize,
}

impl Parsed {
    /// Counts an entry that has just got its form, and takes theirs from the oldest beyond the bound.
    pub(crate) fn add(&self, entry: Weak<Fields>, bytes: usize) {
        let bytes = bytes.max(LEAST);
        let mut young = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        young.entries.push_back((entry, bytes));
        young.bytes += bytes;
        while young.bytes > KEPT && young.entries.len() > 1 {
            let Some((oldest, bytes)) = young.entries.pop_front() else { break };
            young.bytes -= bytes;
            if let Some(oldest) = oldest.upgrade() {
                oldest.forget_form();
            }
        }
    }
}
