//! Questions by TCP: whoever has too many connections, is silent, slow or long-winded is hung up on.

use std::collections::HashMap;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::timeout;

use super::Desk;

/// Open connections by guest.
type Open = Arc<Mutex<HashMap<IpAddr, usize>>>;

/// A place among the open connections, given back when dropped.
struct Place(Open, IpAddr);

impl Place {
    fn take(open: &Open, guest: IpAddr, desk: &Desk) -> Option<Place> {
        let mut all = open.lock().unwrap_or_else(PoisonError::into_inner);
        let (total, own) = (all.values().sum::<usize>(), all.get(&guest).copied().unwrap_or_default());
        if total >= desk.limits.connections || own >= desk.limits.connections_each {
            return None;
        }
        all.insert(guest, own + 1);
        Some(Place(open.clone(), guest))
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match all.get_mut(&self.1) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(all.remove(&self.1)),
        }
    }
}

pub(super) async fn serve(listener: TcpListener, desk: Arc<Desk>) -> io::Result<()> {
    let open = Open::default();
    loop {
        let Ok((stream, from)) = listener.accept().await else {
            // Out of descriptors, or a guest that hung up at once: neither may make this loop spin.
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
            continue;
        };
        let Some(place) = Place::take(&open, from.ip(), &desk) else { continue };
        let desk = desk.clone();
        tokio::spawn(async move {
            let _place = place;
            // However it ends, the guest has noticed.
            let _ = timeout(desk.limits.lifetime, converse(stream, from.ip(), &desk)).await;
        });
    }
}

async fn converse(mut stream: TcpStream, guest: IpAddr, desk: &Desk) -> io::Result<()> {
    let idle = desk.limits.idle;
    loop {
        let length = usize::from(timeout(idle, stream.read_u16()).await??);
        if length > desk.limits.longest_question || !desk.rates.allow(guest, Instant::now()) {
            return Ok(());
        }
        let mut question = vec![0; length];
        timeout(idle, stream.read_exact(&mut question)).await??;
        let Some(answer) = desk.reply(&question, None).await else { return Ok(()) };
        let Ok(length) = u16::try_from(answer.len()) else { return Ok(()) };
        let framed = [&length.to_be_bytes()[..], &answer].concat();
        timeout(idle, stream.write_all(&framed)).await??;
    }
}
