//! Tokens that prove nobody, counted by the address they come from.
//!
//! To check a token costs a signature's verification, and whoever has no token can send as many as he likes. So each
//! address has a supply of guesses, which fills up again with time; when it is empty, tokens from there that were not
//! proven before are answered 429 without being looked at. A token that counts costs nothing, and one that has counted
//! before never meets this.

use std::collections::HashMap;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// An empty supply is full again after this time.
const REFILL: Duration = Duration::from_secs(10);
/// Addresses remembered; further ones share one supply until others are full again.
const ADDRESSES: usize = 4096;

/// The other end of a connection; an extension of its requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer(pub(crate) IpAddr);

impl Peer {
    /// Who counts as one: an IPv4 address, or what one subscriber has of IPv6.
    fn subscriber(self) -> IpAddr {
        match self.0.to_canonical() {
            IpAddr::V6(address) => {
                let [a, b, c, d, ..] = address.segments();
                IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
            }
            v4 => v4,
        }
    }

    /// The name under which its requests without an identity have their share.
    pub(crate) fn share(self) -> String {
        format!("address:{}", self.subscriber())
    }
}

/// What each address has left.
pub(crate) struct Strangers {
    most: f64,
    supplies: Mutex<HashMap<Option<IpAddr>, Supply>>,
}

#[derive(Clone, Copy)]
struct Supply {
    left: f64,
    at: Instant,
}

impl Strangers {
    /// So many guesses at once for each address.
    pub(crate) fn new(most: u32) -> Self {
        Self { most: f64::from(most), supplies: Mutex::default() }
    }

    /// Takes a guess from an address's supply, if there is one.
    pub(crate) fn take(&self, peer: Option<Peer>, now: Instant) -> bool {
        let mut supplies = self.supplies.lock().unwrap_or_else(PoisonError::into_inner);
        let mut key = peer.map(Peer::subscriber);
        if supplies.len() >= ADDRESSES && !supplies.contains_key(&key) {
            supplies.retain(|_, supply| self.now(*supply, now) < self.most);
            if supplies.len() >= ADDRESSES {
                key = None;
            }
        }
        let supply = supplies.entry(key).or_insert(Supply { left: self.most, at: now });
        *supply = Supply { left: self.now(*supply, now), at: now };
        if supply.left < 1.0 {
            return false;
        }
        supply.left -= 1.0;
        true
    }

    /// Gives one back: it was no guess.
    pub(crate) fn give_back(&self, peer: Option<Peer>) {
        let mut supplies = self.supplies.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(supply) = supplies.get_mut(&peer.map(Peer::subscriber)) {
            supply.left = (supply.left + 1.0).min(self.most);
        }
    }

    fn now(&self, supply: Supply, now: Instant) -> f64 {
        let passed = now.saturating_duration_since(supply.at).as_secs_f64();
        (supply.left + self.most * passed / REFILL.as_secs_f64()).min(self.most)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(text: &str) -> Option<Peer> {
        Some(Peer(text.parse().unwrap()))
    }

    fn guesses(strangers: &Strangers, from: Option<Peer>, now: Instant) -> usize {
        (0..1000).take_while(|_| strangers.take(from, now)).count()
    }

    #[test]
    fn each_address_has_its_own_supply_and_it_fills_up_again() {
        let (strangers, now) = (Strangers::new(20), Instant::now());
        assert_eq!(guesses(&strangers, peer("10.0.0.1"), now), 20);
        assert_eq!(guesses(&strangers, peer("10.0.0.2"), now), 20);
        assert_eq!(guesses(&strangers, peer("10.0.0.1"), now + REFILL / 4), 5);
        assert_eq!(guesses(&strangers, peer("10.0.0.1"), now + REFILL * 9), 20);
    }

    #[test]
    fn a_token_that_counts_costs_nothing() {
        let (strangers, now) = (Strangers::new(3), Instant::now());
        for _ in 0..100 {
            assert!(strangers.take(peer("10.0.0.1"), now));
            strangers.give_back(peer("10.0.0.1"));
        }
        assert_eq!(guesses(&strangers, peer("10.0.0.1"), now), 3);
    }

    #[test]
    fn a_subscriber_of_ipv6_is_one_and_an_old_address_in_new_clothes_is_the_old_one() {
        let (strangers, now) = (Strangers::new(3), Instant::now());
        assert_eq!(guesses(&strangers, peer("2001:db8::1"), now), 3);
        assert_eq!(guesses(&strangers, peer("2001:db8::2"), now), 0);
        assert_eq!(guesses(&strangers, peer("2001:db8:0:1::2"), now), 3);
        assert_eq!(guesses(&strangers, peer("10.0.0.1"), now), 3);
        assert_eq!(guesses(&strangers, peer("::ffff:10.0.0.1"), now), 0);
    }

    #[test]
    fn any_number_of_addresses_takes_a_bounded_memory() {
        let (strangers, now) = (Strangers::new(2), Instant::now());
        for n in 0..10_000_u32 {
            strangers.take(Some(Peer(IpAddr::from(n.to_be_bytes()))), now);
        }
        assert!(strangers.supplies.lock().unwrap().len() <= ADDRESSES + 1);
        let later = Some(Peer("192.0.2.1".parse().unwrap()));
        assert_eq!(guesses(&strangers, later, now), 0, "they share one");
        assert_eq!(guesses(&strangers, later, now + REFILL), 2, "until others are full again");
    }
}
