//! The volume's status. Pure.

use crds::condition::{READY, set};
use crds::{Volume, VolumeStatus};

/// It is there.
pub fn ready(volume: &Volume) -> VolumeStatus {
    status(volume, true, "Available", String::new())
}

/// It is not, or going.
pub fn not_ready(volume: &Volume, reason: &str, message: String) -> VolumeStatus {
    status(volume, false, reason, message)
}

fn status(volume: &Volume, holds: bool, reason: &str, message: String) -> VolumeStatus {
    let mut conditions = volume.status.clone().unwrap_or_default().conditions;
    let generation = volume.metadata.generation;
    set(&mut conditions, READY, holds, reason, message, generation);
    VolumeStatus { observed_generation: generation, serial: Some(super::serial(volume)), conditions }
}
