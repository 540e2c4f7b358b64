//! Ports that are chosen once and kept: whoever was told one finds its listener there after every restart.
//!
//! ```text
//!  /var/tmp/clusterctl-ports/PORT-XXXXXXXX     one claim; within it the path of the file that remembers the port (the keeper)
//!  DIR/server/port                             such a keeper
//! ```
//!
//! While its listener is down, a port is anybody's. Two kinds of processes of ours could take it, and neither can:
//! - *A connection that goes out, or a listener on any free port.* The kernel gives them ports of `ip_local_port_range`; those
//!   chosen here lie outside.
//! - *Another instance that chooses a port of its own.* All choose under one lock and pass over what another has claimed, be it
//!   up or not. A claim holds for as long as its keeper exists, so nobody has to clear up: what a deleted directory had is free.
//!
//! The claims lie where every user may write and what is there outlives a reboot. A user who means ill can make others do
//! without the claims there; then a port is still outside the range, and free when it is chosen.

use std::collections::hash_map::{DefaultHasher, RandomState};
use std::fs::{self, DirBuilder, File, OpenOptions, Permissions};
use std::hash::{BuildHasher, Hash, Hasher};
use std::io::{self, ErrorKind, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::ops::RangeInclusive;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::fs::{FlockOperation, flock};

/// Where the claims of a machine lie.
pub const CLAIMS: &str = "/var/tmp/clusterctl-ports";
/// The first port that is chosen where the kernel leaves room there.
const LOWEST: u16 = 20_000;
/// What the kernel's range is unless it says another.
const USUAL: (u16, u16) = (32_768, 60_999);
/// How long others may hold the lock; they write two small files under it.
const PATIENCE: Duration = Duration::from_secs(3);
const TRIES: usize = 256;

/// The claims of all instances of this machine.
#[derive(Clone, Debug)]
pub struct Claims {
    dir: PathBuf,
}

impl Claims {
    /// Those of this machine.
    pub fn of_machine() -> Claims {
        Claims { dir: PathBuf::from(CLAIMS) }
    }

    /// Chooses `N` ports that are free and nobody else's, and has `remember` write them to `keeper`, an absolute path. What
    /// that keeper had claimed before is given up.
    ///
    /// # Errors
    /// Those of `remember`, and `AddrInUse` when no port was found.
    pub fn choose<const N: usize>(
        &self,
        keeper: &Path,
        remember: impl FnOnce([u16; N]) -> io::Result<()>,
    ) -> io::Result<[u16; N]> {
        let lock = self.lock();
        let claimed = match &lock {
            Ok(_) => self.others(keeper),
            Err(error) => {
                tracing::warn!(dir = %self.dir.display(), %error, "ports are chosen without the claims of other instances");
                Vec::new()
            }
        };
        let mut chosen = [0; N];
        for number in 0..N {
            chosen[number] = draw(|port| !claimed.contains(&port) && !chosen[..number].contains(&port))?;
        }
        remember(chosen)?;
        if lock.is_ok() {
            self.write(keeper, &chosen);
        }
        Ok(chosen)
    }

    /// Claims anew what `keeper` remembers: somebody may have cleared the claims away.
    pub fn renew(&self, keeper: &Path, ports: &[u16]) {
        match self.lock() {
            Ok(_lock) => self.write(keeper, ports),
            Err(error) => tracing::warn!(dir = %self.dir.display(), %error, "the ports kept are not claimed"),
        }
    }

    /// Gives up what keepers below a directory have claimed.
    pub fn release(&self, below: &Path) {
        // Without the directory there is nothing to give up.
        let Ok(_lock) = (if self.dir.exists() { self.lock() } else { Err(ErrorKind::NotFound.into()) }) else { return };
        for claim in self.all().filter(|claim| claim.keeper.starts_with(below)) {
            let _ = fs::remove_file(claim.path);
        }
        // Fails while others have claims.
        let _ = fs::remove_dir(&self.dir);
    }

    /// The ports of other keepers that exist. Claims of those that do not are removed where we may.
    fn others(&self, keeper: &Path) -> Vec<u16> {
        let (valid, stale): (Vec<Claim>, Vec<Claim>) =
            self.all().filter(|claim| claim.keeper != keeper).partition(Claim::holds);
        for claim in stale {
            let _ = fs::remove_file(claim.path);
        }
        valid.into_iter().map(|claim| claim.port).collect()
    }

    fn all(&self) -> impl Iterator<Item = Claim> {
        fs::read_dir(&self.dir).into_iter().flatten().flatten().filter_map(|entry| Claim::read(entry.path()))
    }

    /// Makes the claims of `keeper` be those for `ports`. One that cannot be written is told; the port is good all the same.
    fn write(&self, keeper: &Path, ports: &[u16]) {
        for old in self.all().filter(|claim| claim.keeper == keeper && !ports.contains(&claim.port)) {
            let _ = fs::remove_file(old.path);
        }
        let mut hasher = DefaultHasher::new();
        keeper.hash(&mut hasher);
        let mark = hasher.finish() >> 32;
        for port in ports {
            let path = self.dir.join(format!("{port}-{mark:08x}"));
            // What is there says so already, whoever's it is.
            let made = OpenOptions::new().write(true).create_new(true).mode(0o644).open(&path);
            let written = made.and_then(|mut file| file.write_all(keeper.as_os_str().as_bytes()));
            if let Err(error) = written
                && error.kind() != ErrorKind::AlreadyExists
            {
                tracing::warn!(path = %path.display(), %error, "a port is not claimed");
            }
        }
    }

    /// The lock that all who choose take; the directory is made when it is missing.
    fn lock(&self) -> io::Result<File> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            match DirBuilder::new().mode(0o1777).create(&self.dir) {
                // The umask took bits from the mode.
                Ok(()) => fs::set_permissions(&self.dir, Permissions::from_mode(0o1777))?,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
                Err(error) => return Err(error),
            }
            let flags = rustix::fs::OFlags::DIRECTORY | rustix::fs::OFlags::NOFOLLOW;
            let open = OpenOptions::new().read(true).custom_flags(flags.bits().cast_signed()).open(&self.dir);
            let taken = match open {
                Ok(dir) => flock(&dir, FlockOperation::NonBlockingLockExclusive).map(|()| dir).map_err(io::Error::from),
                Err(error) => Err(error),
            };
            match taken {
                // Whoever gave up the last claim has removed the directory in between: then it is another one.
                Ok(dir)
                    if fs::metadata(&self.dir)
                        .is_ok_and(|now| dir.metadata().is_ok_and(|ours| now.ino() == ours.ino())) =>
                {
                    return Ok(dir);
                }
                Err(error) if !matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::NotFound) => {
                    return Err(error);
                }
                _ if Instant::now() > deadline => return Err(ErrorKind::TimedOut.into()),
                _ => sleep(Duration::from_millis(5)),
            }
        }
    }
}

/// One file among the claims.
struct Claim {
    path: PathBuf,
    port: u16,
    keeper: PathBuf,
}

impl Claim {
    /// What is no claim is none of ours, and is left alone.
    fn read(path: PathBuf) -> Option<Claim> {
        let (port, _) = path.file_name()?.to_str()?.split_once('-')?;
        let port = port.parse().ok()?;
        let plain = fs::symlink_metadata(&path).ok()?.is_file();
        let keeper = plain.then(|| fs::read(&path).ok())??;
        let keeper = PathBuf::from(std::ffi::OsString::from_vec(keeper));
        keeper.is_absolute().then_some(Claim { path, port, keeper })
    }

    /// Who may not look counts it as held.
    fn holds(&self) -> bool {
        !matches!(fs::symlink_metadata(&self.keeper), Err(error) if error.kind() == ErrorKind::NotFound)
    }
}

/// A free port outside the kernel's range that `suits`, by chance.
pub(crate) fn draw(suits: impl Fn(u16) -> bool) -> io::Result<u16> {
    let ports: Vec<u16> = outside(range()).into_iter().flatten().collect();
    let count = u64::try_from(ports.len()).unwrap_or(u64::MAX).max(1);
    for _ in 0..TRIES {
        let drawn = usize::try_from(RandomState::new().build_hasher().finish() % count).unwrap_or_default();
        let port = ports.get(drawn).copied().unwrap_or(LOWEST);
        // At every address: a listener at another one is a neighbour who may want ours, too.
        if suits(port) && TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).is_ok() {
            return Ok(port);
        }
    }
    Err(ErrorKind::AddrInUse.into())
}

/// The ports from [`LOWEST`] on that are outside a range; all of them when it leaves none.
fn outside((first, last): (u16, u16)) -> Vec<RangeInclusive<u16>> {
    let below = (first > LOWEST).then(|| LOWEST..=first - 1);
    let above = (last < u16::MAX).then(|| last.max(LOWEST - 1) + 1..=u16::MAX);
    let found: Vec<_> = below.into_iter().chain(above).collect();
    if found.is_empty() { vec![LOWEST..=u16::MAX] } else { found }
}

/// The ports that the kernel gives to whoever asks for any.
fn range() -> (u16, u16) {
    let text = fs::read_to_string("/proc/sys/net/ipv4/ip_local_port_range").unwrap_or_default();
    let mut words = text.split_whitespace().filter_map(|word| word.parse().ok());
    words.next().zip(words.next()).unwrap_or(USUAL)
}

/// Whether the kernel may give this port to an outgoing connection.
pub fn is_ephemeral(port: u16) -> bool {
    let (first, last) = range();
    (first..=last).contains(&port)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn claims(dir: &Path) -> Claims {
        Claims { dir: dir.join("claims") }
    }

    fn chosen(claims: &Claims, keeper: &Path) -> [u16; 2] {
        claims.choose(keeper, |ports| fs::write(keeper, format!("{ports:?}"))).unwrap()
    }

    #[test]
    fn ports_lie_outside_what_the_kernel_gives_away() {
        let dir = tempfile::tempdir().unwrap();
        let [one, two] = chosen(&claims(dir.path()), &dir.path().join("keeper"));
        assert!(one != two && !is_ephemeral(one) && !is_ephemeral(two), "{one} {two}");
        let whole = |range| outside(range).into_iter().flatten().collect::<Vec<u16>>();
        assert!(whole((32_768, 60_999)).iter().all(|port| !(32_768..=60_999).contains(port) && *port >= LOWEST));
        assert_eq!(whole((1024, 65_000)), (65_001..=u16::MAX).collect::<Vec<_>>());
        assert_eq!(whole((1024, 2000)).first(), Some(&LOWEST));
        assert_eq!(whole((1024, u16::MAX)).len(), usize::from(u16::MAX - LOWEST) + 1, "then any is as good");
    }

    #[test]
    fn instances_that_choose_at_once_never_choose_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let claims = claims(dir.path());
        let one = |number: usize| chosen(&claims, &dir.path().join(format!("keeper{number}")));
        let all: Vec<u16> = std::thread::scope(|scope| {
            let tasks: Vec<_> = (0..16).map(|number| scope.spawn(move || one(number))).collect();
            tasks.into_iter().flat_map(|task| task.join().unwrap()).collect()
        });
        assert_eq!(all.iter().collect::<HashSet<_>>().len(), 32, "{all:?}");
    }

    /// Nobody listens on them, as after a stop; still they are passed over for as long as they are remembered.
    #[test]
    fn what_is_remembered_stays_its_keepers() {
        let dir = tempfile::tempdir().unwrap();
        let claims = claims(dir.path());
        let (keeper, other) = (dir.path().join("keeper"), dir.path().join("other"));
        let ports = chosen(&claims, &keeper);
        let held = |claims: &Claims| {
            let others = claims.others(&other);
            ports.iter().all(|port| others.contains(port))
        };
        assert!(held(&claims));
        assert!(claims.others(&keeper).is_empty(), "its own");
        fs::remove_dir_all(dir.path().join("claims")).unwrap();
        claims.renew(&keeper, &ports);
        assert!(held(&claims), "cleared away, and claimed anew");
        let next = chosen(&claims, &keeper);
        assert_eq!(
            claims.others(&other).into_iter().collect::<HashSet<_>>(),
            HashSet::from(next),
            "the old are given up"
        );
        fs::remove_file(&keeper).unwrap();
        assert!(claims.others(&other).is_empty(), "nobody remembers them");
        assert_eq!(fs::read_dir(dir.path().join("claims")).unwrap().count(), 0, "stale claims are removed");
    }

    #[test]
    fn a_directory_that_goes_leaves_no_claim() {
        let dir = tempfile::tempdir().unwrap();
        let claims = claims(dir.path());
        for name in ["a", "b"] {
            fs::create_dir(dir.path().join(name)).unwrap();
            chosen(&claims, &dir.path().join(name).join("keeper"));
        }
        claims.release(&dir.path().join("a"));
        assert_eq!(claims.all().count(), 2);
        claims.release(&dir.path().join("b"));
        assert!(!dir.path().join("claims").exists(), "the directory is left");
        claims.release(&dir.path().join("b"));
    }

    #[test]
    fn a_failure_to_remember_claims_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let claims = claims(dir.path());
        let refused = claims.choose(&dir.path().join("keeper"), |_: [u16; 1]| Err(ErrorKind::StorageFull.into()));
        assert_eq!(refused.unwrap_err().kind(), ErrorKind::StorageFull);
        assert_eq!(claims.all().count(), 0);
    }
}
