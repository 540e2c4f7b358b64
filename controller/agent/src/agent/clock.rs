//! What is done by the clock: the safety net below all events, and the rotation of logs that tell nobody of their growth.

use std::time::Duration;

use crds::VirtualMachine;
use kube::ResourceExt;
use tokio_util::sync::CancellationToken;

use super::rooms::Rooms;
use crate::layout::Layout;
use crate::sweep::Sweeper;
use crate::virtual_machine::apply::SERIAL_LOG_LIMIT;
use control_loop::Cache;

/// Between two looks at everything, whatever the events said.
const RESYNC: Duration = Duration::from_secs(300);
/// Between two looks at the length of the serial logs.
const ROTATE: Duration = Duration::from_secs(60);

/// The safety net: sweeps at once, then looks at everything now and then. Between, what a network leaves that was not retired.
pub(super) async fn resync(sweeper: Sweeper, rooms: Rooms, shutdown: CancellationToken) {
    let mut clock = tokio::time::interval(RESYNC);
    clock.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = rooms.left.notified() => {
                sweeper.sweep_networks().await;
                continue;
            }
            _ = clock.tick() => {}
        }
        sweeper.sweep().await;
        rooms.everything();
    }
}

/// Keeps serial logs from filling the disk.
pub(super) async fn rotate_logs(vms: Cache<VirtualMachine>, layout: Layout, shutdown: CancellationToken) {
    let mut clock = tokio::time::interval(ROTATE);
    loop {
        tokio::select! {
            () = shutdown.cancelled() => return,
            _ = clock.tick() => {}
        }
        for vm in vms.all() {
            let run_dir = layout.run_dir(&vm.uid().unwrap_or_default());
            let rotated =
                tokio::task::spawn_blocking(move || host::qemu::serial_log::rotate(&run_dir, SERIAL_LOG_LIMIT));
            if let Ok(Err(error)) = rotated.await {
                tracing::warn!(vm = vm.name_any(), %error, "failed to rotate a serial log");
            }
        }
    }
}
