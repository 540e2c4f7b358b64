//! Questions by UDP, one after the other; only those that wait for others are left to a task.

use std::io;
use std::sync::Arc;
use std::time::Instant;

use tokio::net::UdpSocket;

use super::Desk;
use crate::answer::{self, Reply, UDP_PAYLOAD};

pub(super) async fn serve(socket: UdpSocket, desk: Arc<Desk>) -> io::Result<()> {
    let socket = Arc::new(socket);
    // One byte more than is read, so that a longer one shows.
    let mut buffer = [0; UDP_PAYLOAD as usize + 1];
    loop {
        // An error here is about an earlier answer that could not be delivered.
        let Ok((length, from)) = socket.recv_from(&mut buffer).await else { continue };
        if length > usize::from(UDP_PAYLOAD) || from.port() == 0 || !desk.rates.allow(from.ip(), Instant::now()) {
            continue;
        }
        let question = &buffer[..length];
        match answer::answer(&desk.view(), question) {
            Reply::Nothing => {}
            Reply::Answer(message) => {
                if let Some(bytes) = answer::encode(&message, Some(answer::payload_of(question))) {
                    // A full buffer loses it, as any router on the way might; the guest asks again.
                    let _ = socket.try_send_to(&bytes, from);
                }
            }
            Reply::Ask(message, query) => {
                let payload = answer::payload_of(question);
                let (socket, desk) = (socket.clone(), desk.clone());
                tokio::spawn(async move {
                    let message = desk.forwarder.complete(message, query).await;
                    if let Some(bytes) = answer::encode(&message, Some(payload)) {
                        let _ = socket.try_send_to(&bytes, from);
                    }
                });
            }
        }
    }
}
