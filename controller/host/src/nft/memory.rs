//! What nft listed last of a namespace, for as long as nobody has written since.
//!
//! Listing costs with what there is: ten thousand elements are fifty milliseconds, on every look at the network. The kernel counts the
//! transactions of each namespace ("generation"), whoever writes them, and tells the count in one small message. While the count is
//! the one of the last listing, that listing still says what there is. A transaction of ours is carried over: when the count is one higher
//! than before, it was the only one, and what it left is known, but for how the kernel words rules that were not there before. Those alone
//! are listed then.
//!
//! What the kernel itself adds to sets with a timeout is no transaction and counts nowhere; it is not in a listing's elements either.
//!
//! The memory belongs to the open namespace ([`Namespace`]) and goes with it: a later namespace that the kernel gives the same number
//! has counted from one again.

use std::collections::HashMap;
use std::io;
use std::sync::{Arc, Mutex, PoisonError};

use rtnetlink::sys::protocols::NETLINK_NETFILTER;
use rtnetlink::sys::{Socket, SocketAddr};

use super::listing::Found;
use super::table::Family;
use crate::netns::{self, Namespace};

/// `NFNL_SUBSYS_NFTABLES` in the upper byte, `NFT_MSG_GETGEN` (linux/netfilter/nf_tables.h).
const GET_GENERATION: u16 = 10 << 8 | 16;
/// `NFT_MSG_NEWGEN`.
const GENERATION: u16 = 10 << 8 | 15;
/// `NLM_F_REQUEST`.
const REQUEST: u16 = 1;
/// Bytes of a message's header (netlink(7)) and of what stands before the attributes (`nfgenmsg`).
const BEFORE: usize = 16 + 4;
/// `NFTA_GEN_ID`.
const ID: u16 = 1;

/// Of which table, and whether in one family alone.
type Key = (String, Option<Family>);

/// Listings of one namespace, each with the generation at which it was true.
#[derive(Debug, Default)]
pub(crate) struct Memory(Mutex<HashMap<Key, (u32, Arc<Found>)>>);

impl Memory {
    /// What is true at this generation, if it is known.
    pub(super) fn at(&self, generation: u32, table: &str, family: Option<Family>) -> Option<Arc<Found>> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let (then, found) = all.get(&(table.to_owned(), family))?;
        (*then == generation).then(|| found.clone())
    }

    /// Remembers what was listed.
    pub(super) fn keep(&self, generation: u32, table: &str, family: Option<Family>, found: Arc<Found>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Only the newest can ever be true again.
        all.retain(|_, (then, _)| *then == generation);
        all.insert((table.to_owned(), family), (generation, found));
    }

    /// Carries on after one transaction, the only one since `generation`, that left of `table` (looked at like this) what `found` says, and
    /// changed nothing else.
    pub(super) fn carry(&self, generation: u32, table: &str, family: Option<Family>, found: Arc<Found>) {
        let next = generation.wrapping_add(1);
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // Of the same table, what was seen in all families and what in one do not follow from each other.
        let stays =
            |(of, looked_at): &Key| of != table || (looked_at.is_some() && family.is_some() && *looked_at != family);
        all.retain(|key, (then, _)| *then == generation && stays(key));
        all.values_mut().for_each(|(then, _)| *then = next);
        all.insert((table.to_owned(), family), (next, found));
    }
}

/// How many transactions the namespace has seen, as far as the kernel tells.
pub(super) async fn generation(namespace: &Namespace) -> netns::Result<Option<u32>> {
    let asked = netns::enter(namespace, ask).await?;
    // Whoever cannot know looks for himself.
    Ok(asked.ok().flatten())
}

fn ask() -> io::Result<Option<u32>> {
    let mut socket = Socket::new(NETLINK_NETFILTER)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    let mut question = Vec::with_capacity(BEFORE);
    question.extend((BEFORE as u32).to_ne_bytes());
    question.extend(GET_GENERATION.to_ne_bytes());
    question.extend(REQUEST.to_ne_bytes());
    question.resize(BEFORE, 0);
    socket.send(&question, 0)?;
    let (answer, _) = socket.recv_from_full()?;
    Ok(read(&answer))
}

/// The number in the kernel's answer; nothing when it is another answer.
fn read(answer: &[u8]) -> Option<u32> {
    let kind = u16::from_ne_bytes(answer.get(4..6)?.try_into().ok()?);
    if kind != GENERATION {
        return None;
    }
    let mut rest = answer.get(BEFORE..)?;
    loop {
        let length = usize::from(u16::from_ne_bytes(rest.get(..2)?.try_into().ok()?));
        let kind = u16::from_ne_bytes(rest.get(2..4)?.try_into().ok()?);
        if kind == ID {
            return Some(u32::from_be_bytes(rest.get(4..8)?.try_into().ok()?));
        }
        // Attributes are aligned to four bytes, and none is shorter than its own header.
        rest = rest.get(length.max(4).next_multiple_of(4)..)?;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(rules: &str) -> Arc<Found> {
        Arc::new(Found { rules: Some(rules.to_owned()), ..Found::default() })
    }

    #[test]
    fn what_was_listed_is_true_until_anybody_writes() {
        let memory = Memory::default();
        memory.keep(7, "ours", Some(Family::Bridge), found("a"));
        assert!(memory.at(7, "ours", Some(Family::Bridge)).is_some());
        assert!(memory.at(8, "ours", Some(Family::Bridge)).is_none());
        assert!(memory.at(7, "ours", None).is_none(), "another view is not known");
        assert!(memory.at(7, "theirs", Some(Family::Bridge)).is_none());
    }

    #[test]
    fn our_own_transaction_is_carried_over_and_what_was_older_is_not() {
        let memory = Memory::default();
        memory.keep(7, "ours", None, found("a"));
        memory.keep(7, "other", None, found("b"));
        memory.keep(7, "ours", Some(Family::Inet), found("in one"));
        memory.carry(7, "ours", None, found("c"));
        assert_eq!(memory.at(8, "ours", None), Some(found("c")));
        assert_eq!(memory.at(8, "other", None), Some(found("b")));
        assert_eq!(memory.at(7, "ours", None), None);
        assert_eq!(memory.at(8, "ours", Some(Family::Inet)), None, "it may have changed there");
        memory.carry(9, "ours", None, found("d"));
        assert_eq!(memory.at(10, "other", None), None, "somebody wrote between 8 and 9");
    }

    #[test]
    fn tables_of_one_name_in_two_families_are_two() {
        let memory = Memory::default();
        memory.keep(7, "ours", Some(Family::Inet), found("a"));
        memory.keep(7, "ours", Some(Family::Bridge), found("b"));
        memory.carry(7, "ours", Some(Family::Inet), found("c"));
        assert_eq!(memory.at(8, "ours", Some(Family::Inet)), Some(found("c")));
        assert_eq!(memory.at(8, "ours", Some(Family::Bridge)), Some(found("b")));
    }

    #[test]
    fn the_kernels_answer_is_read_and_no_other() {
        let mut answer = vec![0; BEFORE];
        answer[4..6].copy_from_slice(&GENERATION.to_ne_bytes());
        for (kind, bytes) in [(3_u16, &b"nft\0"[..]), (1, &[0, 0, 1, 2])] {
            answer.extend(8_u16.to_ne_bytes());
            answer.extend(kind.to_ne_bytes());
            answer.extend(bytes);
        }
        assert_eq!(read(&answer), Some(258));
        for length in 0..answer.len() {
            assert_eq!(read(&answer[..length]), None, "cut at {length}");
        }
        answer[4..6].copy_from_slice(&2_u16.to_ne_bytes());
        assert_eq!(read(&answer), None, "an error is no count");
    }
}
