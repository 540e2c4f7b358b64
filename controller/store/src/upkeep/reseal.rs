//! Brings stored values under the key that seals now: plain ones from before, and those of an older key.
//!
//! At the start, and whenever the key file was written. Each rewrite is a compare-and-swap with the same value, so a
//! writer who comes in between wins, and has sealed with the new key anyway.

use crate::core::Core;
use crate::seal::{Sealing, key_of};
use crate::write::{Action, Write};
use crate::{Error, Revision};

/// Rewrites when the key file was written since the last look.
pub(super) async fn look(core: &Core) {
    let Some(sealing) = &core.options.sealing else { return };
    match sealing.keyring.reload() {
        Ok(true) => {
            tracing::info!("the encryption keys have changed");
            rewrite(core).await;
        }
        Ok(false) => {}
        Err(error) => tracing::error!(%error, "the encryption keys cannot be read again; the known ones stay in use"),
    }
}

/// Rewrites what is not sealed with the first key.
pub(super) async fn rewrite(core: &Core) {
    let Some(sealing) = &core.options.sealing else { return };
    for folder in &sealing.folders {
        match rewrite_folder(core, sealing, folder).await {
            Ok(0) => {}
            Ok(count) => tracing::info!(count, folder, "encrypted stored values anew"),
            Err(error) => tracing::warn!(%error, folder, "some stored values are not encrypted with the first key yet"),
        }
    }
}

async fn rewrite_folder(core: &Core, sealing: &Sealing, folder: &str) -> Result<usize, Error> {
    let prefix = format!("{}{folder}", core.keys.prefix());
    let mut stale = Vec::new();
    let found = core.link.scan(&prefix, true, |kv| {
        if !sealing.is_current(kv.value()) {
            // One that stays closed is left alone: sealed twice, no key would ever open it again.
            stale.extend(core.link.entry_of(kv).filter(|entry| key_of(&entry.value).is_none()));
        }
    });
    found.await.map_err(|failure| failure.of("list", core.options.timeout))?;
    let mut count = 0;
    for entry in stale {
        let expected: Revision = entry.mod_revision;
        match Write::new(core, &entry.key, Action::Update(entry.value.clone(), expected)).run().await {
            Ok(_) => count += 1,
            Err(Error::Conflict { .. } | Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    Ok(count)
}
