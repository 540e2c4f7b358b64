//! What goes wrong, in an order that the seed repeats.

use std::time::{Duration, Instant};

use anyhow::Result;
use rustix::process::Signal;
use testkit::Random;
use testkit::history::Moment;

use super::rooms::{COUNT, Place};
use super::world::World;

/// Something that goes wrong, and is put right after its time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// The leading server is killed and started again.
    KillLeader,
    /// A server is killed and started again.
    KillServer(usize),
    /// An etcd member is killed and started again.
    KillMember(usize),
    /// The leading server stands still for longer than its Lease lasts, and goes on.
    PauseLeader,
    /// An etcd member stands still and goes on.
    PauseMember(usize),
    /// The leading server cannot reach etcd for longer than its Lease lasts; its clients reach it.
    CutLeader,
    /// A server reaches only one of the members.
    CutServer(usize),
    /// An etcd member cannot reach the others; the servers reach it.
    CutMember(usize),
}

/// One fault for its time, and the time of calm after it.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    fault: Fault,
    lasts: Duration,
    calm: Duration,
}

/// What went wrong, and when.
pub struct Injected {
    /// What.
    pub fault: Fault,
    /// From when.
    pub from: Moment,
    /// Until it was put right, and the calm after it over.
    pub until: Moment,
}

impl Fault {
    /// Whether every server has members of etcd left that it could ask.
    pub fn spares_servers(self) -> bool {
        matches!(self, Fault::KillMember(_) | Fault::PauseMember(_) | Fault::CutMember(_))
    }

    /// How it is counted.
    pub fn word(self) -> &'static str {
        match self {
            Fault::KillLeader | Fault::KillServer(_) => "kill -9 of a server",
            Fault::KillMember(_) => "kill -9 of an etcd member",
            Fault::PauseLeader => "leader stopped past its lease",
            Fault::PauseMember(_) => "etcd member stopped",
            Fault::CutLeader => "leader cut off from etcd",
            Fault::CutServer(_) => "server cut off from two members",
            Fault::CutMember(_) => "etcd member cut off from its peers",
        }
    }

    /// Longer than the Lease (6 s) where that is the point.
    fn seconds(self) -> u64 {
        match self {
            Fault::KillLeader | Fault::KillServer(_) | Fault::KillMember(_) => 3,
            Fault::PauseMember(_) => 4,
            Fault::PauseLeader | Fault::CutLeader => 8,
            Fault::CutServer(_) | Fault::CutMember(_) => 6,
        }
    }
}

/// Each kind of fault once, in some order; a long round has two of each.
pub fn plan(random: &mut Random, long: bool) -> Vec<Step> {
    let mut all = Vec::new();
    for _ in 0..=usize::from(long) {
        let mut someone = || random.index(COUNT);
        all.extend([Fault::KillMember(someone()), Fault::CutMember(someone())]);
        all.extend([Fault::KillLeader, Fault::PauseLeader, Fault::CutLeader]);
        if long {
            all.extend([Fault::KillServer(someone()), Fault::PauseMember(someone()), Fault::CutServer(someone())]);
        }
    }
    let mut plan = Vec::new();
    while !all.is_empty() {
        let fault = all.swap_remove(random.index(all.len()));
        let lasts = Duration::from_millis(fault.seconds() * 1000 + random.below(1000));
        plan.push(Step { fault, lasts, calm: Duration::from_millis(1000 + random.below(1000)) });
    }
    plan
}

/// Carries the plan out; returns what went wrong, and when by `clock`.
pub async fn inject(world: &mut World, plan: &[Step], clock: Instant) -> Result<Vec<Injected>> {
    let now = || Moment::try_from(clock.elapsed().as_micros()).unwrap_or(Moment::MAX);
    let mut done = Vec::new();
    for step in plan {
        println!("{:>6.1?} {:?} for {:?}", clock.elapsed(), step.fault, step.lasts);
        let from = now();
        carry_out(world, *step).await?;
        // The calm is part of the load, not a wait for anything.
        tokio::time::sleep(step.calm).await;
        done.push(Injected { fault: step.fault, from, until: now() });
    }
    Ok(done)
}

async fn carry_out(world: &mut World, step: Step) -> Result<()> {
    match step.fault {
        Fault::KillLeader => {
            let leader = world.leader(None).await?;
            kill(world, Place::Server(leader), step.lasts).await
        }
        Fault::KillServer(server) => kill(world, Place::Server(server), step.lasts).await,
        Fault::KillMember(member) => kill(world, Place::Member(member), step.lasts).await,
        Fault::PauseLeader => {
            let leader = world.leader(None).await?;
            pause(world, Place::Server(leader), step.lasts).await?;
            world.leader(None).await.map(drop)
        }
        Fault::PauseMember(member) => pause(world, Place::Member(member), step.lasts).await,
        Fault::CutLeader => {
            let leader = Place::Server(world.leader(None).await?);
            let pairs: Vec<_> = (0..COUNT).map(|member| (leader, Place::Member(member))).collect();
            cut(world, &pairs, step.lasts).await
        }
        Fault::CutServer(server) => {
            let pairs: Vec<_> =
                (0..COUNT).filter(|m| *m != server).map(|m| (Place::Server(server), Place::Member(m))).collect();
            cut(world, &pairs, step.lasts).await
        }
        Fault::CutMember(member) => {
            let others = (0..COUNT).filter(|other| *other != member);
            let pairs: Vec<_> = others.map(|other| (Place::Member(member), Place::Member(other))).collect();
            cut(world, &pairs, step.lasts).await
        }
    }
}

async fn kill(world: &mut World, place: Place, lasts: Duration) -> Result<()> {
    world.kill(place);
    tokio::time::sleep(lasts).await;
    world.start(place).await?;
    world.wait_ready(place).await
}

async fn pause(world: &World, place: Place, lasts: Duration) -> Result<()> {
    world.signal(place, Signal::STOP)?;
    tokio::time::sleep(lasts).await;
    world.signal(place, Signal::CONT)
}

async fn cut(world: &World, pairs: &[(Place, Place)], lasts: Duration) -> Result<()> {
    world.rooms.cut(pairs)?;
    tokio::time::sleep(lasts).await;
    world.rooms.cut(&[])
}
