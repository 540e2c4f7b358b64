//! Two tenants with one range on the same two hosts: whatever a guest of one forges, no guest of the other sees a byte.

use std::net::Ipv6Addr;

use super::lab::{Hosts, Network, discovery, link_local, mac, packet6, received, send, six, through, udp};

/// Frames that are forged.
const TRIES: usize = 10_000;
/// Ends every forged frame.
const MARK: &[u8] = b"forged by tenant one";

/// Random numbers that a seed repeats (xorshift, Marsaglia 2003).
pub struct Random(u64);

impl Random {
    pub fn seeded() -> Random {
        let seed = match std::env::var("SEED") {
            Ok(seed) => seed.parse().unwrap(),
            Err(_) => std::time::UNIX_EPOCH.elapsed().unwrap().as_nanos() as u64,
        };
        println!("SEED={seed} repeats these frames");
        Random(seed | 1)
    }

    pub fn below(&mut self, limit: usize) -> usize {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        (self.0 % limit as u64) as usize
    }

    pub fn of<T: Clone>(&mut self, some: &[T]) -> T {
        some[self.below(some.len())].clone()
    }
}

/// A frame such as a guest sends that means harm.
fn forged(random: &mut Random, macs: &[[u8; 6]], groups: &[[u8; 6]], vni: u32) -> Vec<u8> {
    let all = [macs, groups].concat();
    let mut frame = [random.of(&all), random.of(macs)].concat();
    if random.below(4) == 0 {
        frame.extend([0x81, 0, 0, random.below(256) as u8]);
    }
    let (from, to) = (address(random), address(random));
    match random.below(8) {
        0 => {
            frame.extend([8, 6, 0, 1, 8, 0, 6, 4, 0, 1 + random.below(2) as u8]);
            frame.extend([&random.of(macs)[..], &from, &random.of(macs)[..], &to].concat());
        }
        // DHCP in both directions.
        1 => frame.extend(udp(from, [255; 4], (68, 67), &[&[1, 1, 6, 0], MARK].concat())),
        2 => frame.extend(udp(from, to, (67, 68), &[&[2, 1, 6, 0], MARK].concat())),
        // A packet for the other tenant's network, packed as the tunnel would.
        3 => {
            let ends = [&random.of(macs)[..], &random.of(macs)[..], MARK].concat();
            let inner = [&[8, 0, 0, 0][..], &vni.to_be_bytes()[1..], &[0], &ends].concat();
            frame.extend(udp(from, [100, 64, 0, 1 + random.below(2) as u8], (4789, 4789), &inner));
        }
        // Routers and neighbours asked for and advertised, and redirection.
        4 | 5 => {
            let kind = random.of(&[133u8, 134, 135, 136, 137]);
            let about = discovery(kind, address6(random), MARK);
            frame.extend(packet6(address6(random), address6(random), 58, &about));
        }
        // DHCPv6 in both directions, and names.
        6 => {
            let [from, to] = [random.of(&[546u16, 547, 40_000]), random.of(&[546u16, 547, 53])].map(u16::to_be_bytes);
            let data = [&from[..], &to, &[0, 8 + MARK.len() as u8, 0, 0], MARK].concat();
            frame.extend(packet6(address6(random), address6(random), 17, &data));
        }
        _ => frame.extend(udp(from, to, (1 + random.below(60_000) as u16, 53), MARK)),
    }
    if !frame.ends_with(MARK) {
        frame.extend(MARK);
    }
    frame
}

/// Of a guest of either tenant, the gateway's, everybody's, or a host's on the underlay.
fn address(random: &mut Random) -> [u8; 4] {
    random.of(&[[10, 1, 0, 11], [10, 1, 0, 12], [10, 1, 0, 1], [255; 4], [0; 4], [100, 64, 0, 1], [100, 64, 0, 2]])
}

/// The same of IPv6, or a group's.
fn address6(random: &mut Random) -> Ipv6Addr {
    let known = [six(11), six(12), six(1), link_local(11), link_local(12), Ipv6Addr::UNSPECIFIED];
    let groups =
        ["ff02::1", "ff02::2", "ff02::1:2", "ff02::1:ff00:b", "ff02::1:ff00:c"].map(|text| text.parse().unwrap());
    random.of(&[&known[..], &groups].concat())
}

#[tokio::test]
async fn no_forged_frame_of_one_tenant_reaches_another_of_the_same_range() {
    let mut random = Random::seeded();
    let hosts = Hosts::new(2).await;
    let (mut one, mut two) = (Network::new(&hosts, 10_010).await, Network::new(&hosts, 10_011).await);
    one.ensure_six().await;
    two.ensure_six().await;
    // The same addresses of all kinds, on the same hosts.
    let (mine, friend) = (one.tap(11, 0).await, one.tap(12, 1).await);
    let victims = [two.tap(11, 0).await, two.tap(12, 1).await, two.tap(13, 1).await];
    one.ensure(&hosts).await;
    two.ensure(&hosts).await;

    let macs = [mac(11), mac(12), mac(13), one.gateway(), two.gateway(), [0x52, 0x54, 0, 9, 9, 9]];
    let groups = [[0xff; 6], [1, 0, 0x5e, 0, 0, 1], [0x33, 0x33, 0, 0, 0, 1], [1, 0x80, 0xc2, 0, 0, 0]];
    // The last knocks, by which the test knows that what came before is through.
    let knock = |from: u8, to: u8| [&mac(to)[..], &mac(from), &[0x88, 0xb5], b"through", &[0; 40]].concat();
    let (mut crossed, mut came) = (0, Vec::new());
    for round in 0..TRIES / 100 {
        for _ in 0..100 {
            send(&mine, &forged(&mut random, &macs, &groups, two.vni));
        }
        came.extend(through(&mine, &friend, &knock(11, 12)).await);
        if round % 10 == 9 {
            through(&victims[1], &victims[0], &knock(12, 11))
                .await
                .iter()
                .for_each(|frame| crossed += is_forged(frame));
            through(&victims[0], &victims[2], &knock(11, 13))
                .await
                .iter()
                .for_each(|frame| crossed += is_forged(frame));
        }
        for frame in victims.iter().flat_map(received) {
            crossed += is_forged(&frame);
        }
    }
    assert_eq!(crossed, 0, "forged frames reached the other tenant");
    came.retain(|frame| is_forged(frame) == 1);
    assert!(came.len() > TRIES / 50, "the forger's own network spans the hosts: {} frames came", came.len());
    assert!(came.iter().all(|frame| frame[..6] == mac(12)), "nothing but its own frames came to its friend");
}

fn is_forged(frame: &[u8]) -> usize {
    usize::from(frame.ends_with(MARK))
}
