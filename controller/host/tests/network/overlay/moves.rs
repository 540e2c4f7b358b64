//! Guests of two networks of one range come, move and go over three hosts at random. After each step everybody is probed:
//! who is on one network hears each other, wherever they are, and nobody hears anything of the other network.

use std::collections::BTreeMap;

use host::tap::Tap;

use super::isolation::Random;
use super::lab::{Hosts, Network, mac, received, send};
use crate::lab::eventually;

const HOSTS: usize = 3;
const GUESTS: [u8; 4] = [11, 12, 13, 14];
const STEPS: usize = 40;

/// Who is where: network and guest, to host and tap.
type Placed = BTreeMap<(usize, u8), (u8, Tap)>;

/// What one guest says to another: enough to tell it from all else that was ever said.
fn word(step: usize, network: usize, from: u8, to: u8) -> Vec<u8> {
    let step = u16::try_from(step).unwrap().to_be_bytes();
    [&mac(to)[..], &mac(from), &[0x88, 0xb5], &step, &[u8::try_from(network).unwrap(), from, to], &[0; 40]].concat()
}

async fn one_step(random: &mut Random, networks: &mut [Network; 2], hosts: &Hosts, placed: &mut Placed) {
    let (network, number) = (random.below(2), random.of(&GUESTS));
    let gone = placed.remove(&(network, number)).map(|(host, _tap)| host);
    if let Some(host) = gone {
        // With its tap's last file.
        let links = &networks[network].cells[usize::from(host)].links;
        eventually("its tap is gone", || async { links.find(&format!("t{number}")).await.unwrap().is_none() }).await;
        networks[network].remove(number);
    }
    // One of four only goes.
    if gone.is_none() || random.below(4) > 0 {
        let host = u8::try_from(random.below(HOSTS)).unwrap();
        let tap = networks[network].tap(number, host).await;
        placed.insert((network, number), (host, tap));
    }
    // The hosts hear of it in any order.
    let first = random.below(HOSTS);
    for turn in 0..HOSTS {
        networks[network].ensure_on(hosts, u8::try_from((first + turn) % HOSTS).unwrap()).await;
    }
}

/// Everybody speaks to everybody of its network; what must arrive arrives, and nothing else does.
async fn probe(step: usize, placed: &Placed) {
    let mut missing: Vec<((usize, u8), Vec<u8>)> = Vec::new();
    for (network, from) in placed.keys() {
        for to in placed.keys().filter(|(other, to)| other == network && to != from).map(|(_, to)| *to) {
            missing.push(((*network, to), word(step, *network, *from, to)));
        }
    }
    let begun = std::time::Instant::now();
    while !missing.is_empty() {
        assert!(begun.elapsed() < crate::lab::DEADLINE, "step {step}: never heard: {missing:02x?}");
        for (_, word) in &missing {
            let from = (usize::from(word[16]), word[17]);
            send(&placed[&from].1, word);
        }
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        for (place, (_, tap)) in placed {
            for frame in received(tap).into_iter().filter(|frame| frame[12..14] == [0x88, 0xb5]) {
                assert_eq!(
                    usize::from(frame[16]),
                    place.0,
                    "step {step}: {place:?} heard the other network: {frame:02x?}"
                );
                missing.retain(|(wanted, word)| wanted != place || *word != frame);
            }
        }
    }
}

#[tokio::test]
async fn wherever_guests_move_their_network_and_only_theirs_is_heard() {
    let mut random = Random::seeded();
    let hosts = Hosts::new(u8::try_from(HOSTS).unwrap()).await;
    let mut networks = [Network::new(&hosts, 10_020).await, Network::new(&hosts, 10_021).await];
    let mut placed = Placed::new();
    for step in 0..STEPS {
        one_step(&mut random, &mut networks, &hosts, &mut placed).await;
        probe(step, &placed).await;
    }
    for network in &networks {
        for host in 0..u8::try_from(HOSTS).unwrap() {
            assert!(network.ensure_on(&hosts, host).await.is_empty(), "something was left to do");
        }
    }
}
