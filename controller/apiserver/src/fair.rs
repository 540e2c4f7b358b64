//! Nobody gets so much of the server that others get nothing.
//!
//! Each identity may have so many requests under way, and so many bytes of bodies with them; more are answered 429 with
//! `Retry-After`, before anything of them is read. The more identities are active, the smaller the share of each, so
//! that all together stay bounded. Watches and connections last, and have a count of their own.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use crate::request::body;

/// Bounds of one identity's share.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// Requests under way of all identities together, about.
    pub requests: usize,
    /// Requests under way of one identity, however idle the others are.
    pub per_identity: usize,
    /// A share is never smaller than this.
    pub least: usize,
    /// Bytes of bodies under way of one identity.
    pub bytes: usize,
    /// Watches and connections of one identity.
    pub lasting: usize,
    /// Tokens that prove nobody, from one address within a few seconds.
    pub guesses: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { requests: 600, per_identity: 200, least: 16, bytes: 64 << 20, lasting: 2000, guesses: 50 }
    }
}

/// What an identity has under way.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Load {
    requests: usize,
    bytes: usize,
    lasting: usize,
}

/// What one request takes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Cost {
    /// An ordinary request with so many bytes of body.
    Brief(usize),
    /// One that lasts.
    Lasting,
}

impl Cost {
    /// The cost of an ordinary request by the most bytes its body says to have; one that does not say counts as the
    /// largest.
    #[must_use]
    pub fn of(most: Option<u64>) -> Self {
        Self::Brief(most.and_then(|most| usize::try_from(most).ok()).map_or(body::LIMIT, |most| most.min(body::LIMIT)))
    }
}

/// Who has what under way.
#[derive(Debug, Default, Clone)]
pub struct Shares {
    limits: Limits,
    loads: Arc<Mutex<HashMap<Arc<str>, Load>>>,
}

/// A place among the requests under way; given back when dropped.
#[derive(Debug)]
pub struct Place {
    shares: Shares,
    user: Arc<str>,
    cost: Cost,
}

impl Shares {
    /// Shares within these bounds.
    #[must_use]
    pub fn new(limits: Limits) -> Self {
        Self { limits, loads: Arc::default() }
    }

    /// A place for a request, unless its identity has its share already.
    #[must_use]
    pub fn enter(&self, user: &Arc<str>, cost: Cost) -> Option<Place> {
        let mut loads = self.loads.lock().unwrap_or_else(PoisonError::into_inner);
        let others = loads.len() - usize::from(loads.contains_key(user));
        let Limits { requests, per_identity, least, bytes, lasting, guesses: _ } = self.limits;
        let share = (requests / (others + 1)).clamp(least, per_identity.max(least));
        let mut load = loads.get(user).copied().unwrap_or_default();
        match cost {
            Cost::Brief(size) => {
                load.requests += 1;
                load.bytes += size;
            }
            Cost::Lasting => load.lasting += 1,
        }
        if load.requests > share || load.bytes > bytes || load.lasting > lasting {
            return None;
        }
        loads.insert(user.clone(), load);
        Some(Place { shares: self.clone(), user: user.clone(), cost })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut loads = self.shares.loads.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(load) = loads.get_mut(&self.user) else { return };
        match self.cost {
            Cost::Brief(size) => {
                load.requests -= 1;
                load.bytes -= size;
            }
            Cost::Lasting => load.lasting -= 1,
        }
        if *load == Load::default() {
            loads.remove(&self.user);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares() -> Shares {
        Shares::new(Limits { requests: 12, per_identity: 8, least: 2, bytes: 100, lasting: 3, guesses: 1 })
    }

    fn fill(shares: &Shares, user: &str, cost: Cost) -> Vec<Place> {
        let user: Arc<str> = user.into();
        (0..100).map_while(|_| shares.enter(&user, cost)).collect()
    }

    #[test]
    fn one_gets_its_bound_and_the_others_their_share() {
        let shares = shares();
        let greedy = fill(&shares, "greedy", Cost::Brief(0));
        assert_eq!(greedy.len(), 8, "alone: its own bound");
        let second = fill(&shares, "second", Cost::Brief(0));
        assert_eq!(second.len(), 6, "of two: half");
        let many: Vec<Vec<Place>> = (0..10).map(|n| fill(&shares, &n.to_string(), Cost::Brief(0))).collect();
        assert!(many.iter().all(|places| places.len() >= 2), "nobody gets nothing");
        drop((greedy, second, many));
        assert!(shares.loads.lock().unwrap().is_empty(), "nothing is remembered of who has gone");
    }

    #[test]
    fn a_place_given_back_can_be_had_again() {
        let shares = shares();
        let mut places = fill(&shares, "a", Cost::Brief(0));
        let user: Arc<str> = "a".into();
        assert!(shares.enter(&user, Cost::Brief(0)).is_none());
        places.pop();
        assert!(shares.enter(&user, Cost::Brief(0)).is_some());
    }

    #[test]
    fn bytes_and_lasting_requests_are_bounded_too() {
        let shares = shares();
        let large = fill(&shares, "a", Cost::Brief(40));
        assert_eq!(large.len(), 2);
        let watches = fill(&shares, "a", Cost::Lasting);
        assert_eq!(watches.len(), 3);
        assert!(shares.enter(&"a".into(), Cost::Brief(1)).is_some(), "watches leave room for requests");
    }

    #[test]
    fn a_body_of_unknown_length_counts_as_the_largest() {
        assert_eq!(Cost::of(None), Cost::Brief(body::LIMIT));
        assert_eq!(Cost::of(Some(17)), Cost::Brief(17));
        assert_eq!(Cost::of(Some(u64::MAX)), Cost::Brief(body::LIMIT));
    }
}
